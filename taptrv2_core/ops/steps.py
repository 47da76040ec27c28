"""What stands between the products of a tracking step, each in one function.

On a GPU, without gradients, each is one kernel (`taptrv2_core/csrc/cuda`): the window of a few hundred points is many
small operations, and in plain PyTorch starting and waiting for them takes longer than the work. Elsewhere, and wherever
there are gradients, plain PyTorch, which is the definition. B, F, N, C, M as everywhere; K samples of a query.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.geometry import inverse_sigmoid, sine_code, waves
from taptrv2_core.ops.backend import fused_for

MOST_CHANNELS = 512
_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def as_kernels(features: Tensor) -> bool:
    """Whether the functions below run as kernels for such features."""
    return (
        features.is_cuda
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cuda")
        and features.dtype in _TYPES
        and fused_for(features)
    )


def add_norm(norm: nn.LayerNorm, a: Tensor, b: Tensor) -> Tensor:
    """LayerNorm of a + b, (..., C)."""
    fits = a.shape == b.shape and a.shape[-1] % 8 == 0 and a.shape[-1] <= MOST_CHANNELS
    if not fits or a.dtype != norm.weight.dtype or not as_kernels(a):
        return norm(a + b)  # type: ignore[no-any-return]
    return torch.ops.taptrv2.add_norm(a, b, norm.weight, norm.bias, norm.eps)  # type: ignore[no-any-return]


def level_tokens(projections: Sequence[nn.Sequential], levels: Sequence[Tensor]) -> Tensor:
    """Each level (B, inputs, H, W) through its convolution of 1 x 1 and GroupNorm, to one tensor of tokens (B, S, C),
    levels one after another, row by row."""
    convs, norms = [_conv(p) for p in projections], [_norm(p) for p in projections]
    fits = norms[0].num_groups == 32 and norms[0].num_channels in (128, 256)
    if not fits or levels[0].dtype != convs[0].weight.dtype or not as_kernels(levels[0]):
        projected = [project(level) for project, level in zip(projections, levels, strict=True)]
        return torch.cat([level.flatten(2).transpose(1, 2) for level in projected], dim=1)
    rows = [  # channels last, so that the convolution is a product
        F.linear(level.permute(0, 2, 3, 1).flatten(1, 2), conv.weight.flatten(1), conv.bias)
        for conv, level in zip(convs, levels, strict=True)
    ]
    scales, shifts = [norm.weight for norm in norms], [norm.bias for norm in norms]
    return torch.ops.taptrv2.group_norm_tokens(rows, scales, shifts, norms[0].eps)  # type: ignore[no-any-return]


def _conv(projection: nn.Sequential) -> nn.Conv2d:
    conv = projection[0]
    assert isinstance(conv, nn.Conv2d)
    return conv


def _norm(projection: nn.Sequential) -> nn.GroupNorm:
    norm = projection[1]
    assert isinstance(norm, nn.GroupNorm)
    return norm


def box_code(reference: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (..., 4) in [0, 1] of logits (..., 4), their centres (..., 2), and their sine code in the dtype of the
    features ``like`` (..., C), (..., 2C). No gradient reaches the reference."""
    half = like.shape[-1] // 2
    if as_kernels(like) and reference.dtype == torch.float32:
        waved = waves(half, torch.float32, reference.device)
        return torch.ops.taptrv2.box_code(reference, *waved, like.dtype)  # type: ignore[no-any-return]
    box = reference.detach().sigmoid()
    return box, box[..., :2], sine_code(box, half).to(like.dtype)


def move_positions(
    box: Tensor, logits: Tensor, offsets: Tensor, cells: Tensor, updated: Tensor, half: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The attention-based position update: centres move by their samples' offsets, weighted by a softmax.

    Args:
        box: (..., 4) x, y, w, h in [0, 1].
        logits: (..., K) of the weights.
        offsets: (..., K, 2) in cells of the sample's level.
        cells: (K, 2) width and height of that level in cells.
        updated: (..., 1) bool, which move at all.
        half: channels of the sine code a coordinate.

    Returns:
        moved (..., 2), within about [0.001, 0.999] where updated; the code of (moved, w, h), (..., 4 * half); that of
        the way from the box to moved, (..., 2 * half); codes in the dtype of the logits.
    """
    if as_kernels(logits) and box.dtype == torch.float32 and offsets.dtype == logits.dtype:
        waved = waves(half, torch.float32, box.device)
        return torch.ops.taptrv2.move_positions(box, logits, offsets, cells, updated, *waved)  # type: ignore[no-any-return]
    position, fractions = box[..., :2], offsets.to(box.dtype) / cells
    step = (logits.to(box.dtype).softmax(-1).unsqueeze(-2) @ fractions).squeeze(-2)
    moved = torch.where(updated, inverse_sigmoid(position + step).sigmoid(), position)
    code = sine_code(torch.cat((moved, box[..., 2:]), dim=-1), half)
    return moved, code.to(logits.dtype), sine_code(moved - position, half).to(logits.dtype)


def refine_boxes(moved: Tensor, box: Tensor, reference: Tensor, updated: Tensor, delta: Tensor) -> Tensor:
    """Logits (..., 4) of moved (..., 2) and the box's w, h, plus delta (..., 4), where updated (..., 1); elsewhere the
    reference (..., 4)."""
    if as_kernels(delta) and box.dtype == torch.float32:
        return torch.ops.taptrv2.refine_boxes(moved, box, reference, updated, delta)  # type: ignore[no-any-return]
    refined = inverse_sigmoid(torch.cat((moved, box[..., 2:]), dim=-1))
    return torch.where(updated, refined + updated * delta.to(refined.dtype), reference)


def attends_frames(features: Tensor, heads: int) -> bool:
    """Whether `frame_attention` can be used for features (B, F, N, C)."""
    return as_kernels(features) and features.shape[0] == 1 and features.shape[-1] == 32 * heads


def frame_attention(query_key: Tensor, value: Tensor, tracked: Tensor | None, heads: int) -> Tensor:
    """Softmax attention between the frames of each query, on a GPU alone: query_key (F, N, 2C), value (F, N, C) ->
    (F, N, C). Frames attend those that are equal in tracked (F, N) bool; None: all."""
    return torch.ops.taptrv2.frame_attention(query_key, value, tracked, heads)  # type: ignore[no-any-return]
