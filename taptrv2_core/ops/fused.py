"""The fused ops of `taptrv2_core/csrc`: gradients of the two attentions, and of all the shapes that torch.compile and
export need.

Imported only once the library is loaded. The ops take a `reference` or None: with it the samples are offsets in cells
and the weights logits, without they are locations in [0, 1] and plain weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from taptrv2_core.ops.reference import LevelShapes

_OPS = torch.ops.taptrv2


def multi_scale(
    value: Tensor, level_shapes: LevelShapes, reference: Tensor | None, offsets: Tensor, weights: Tensor
) -> Tensor:
    """(B, Q, M * D); see `taptrv2_core.ops`."""
    _refuse_tangents(value, reference, offsets, weights)
    output: Tensor = _OPS.multi_scale(value, _flat(level_shapes), reference, offsets, weights)
    return output


def key_aware(
    query: Tensor,
    key_value: Tensor,
    level_shapes: LevelShapes,
    reference: Tensor | None,
    offsets: Tensor,
    slots: Tensor,
) -> tuple[Tensor, Tensor]:
    """Output (F, N, M * D) and logits (F, N, M, L * P); see `taptrv2_core.ops`."""
    _refuse_tangents(query, key_value, reference, offsets)
    output, logits = _OPS.key_aware(query, key_value, _flat(level_shapes), reference, offsets, slots)
    return output, logits


def _refuse_tangents(*inputs: Tensor | None) -> None:
    """Forward-mode derivatives, which torch would take to be 0: plain PyTorch has none either, in `grid_sample`."""
    if forward_ad._current_level < 0:  # nearly always
        return
    if any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in inputs):
        raise NotImplementedError("taptrv2_core.ops: the deformable attentions have no forward-mode derivative")


def _flat(level_shapes: LevelShapes) -> list[int]:
    return [int(size) for shape in level_shapes for size in shape]


def _sums(dtype: torch.dtype) -> torch.dtype:
    """The dtype of logits: that of sums in the kernels."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _grad_reference(
    grad_offsets: Tensor, level_shapes: list[int], reference: Tensor | None, needed: bool
) -> Tensor | None:
    """A reference in [0, 1] moves every sample by (width, height) cells of its level."""
    if reference is None or not needed:
        return None
    heights, widths = level_shapes[::2], level_shapes[1::2]
    cells = torch.tensor(list(zip(widths, heights, strict=True)), device=reference.device, dtype=reference.dtype)
    grad = (grad_offsets.to(reference.dtype) * cells[:, None]).sum((2, 3, 4))
    return grad if reference.shape[0] == grad.shape[0] else grad.sum(0, keepdim=True)


def _multi_scale_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.level_shapes, reference, offsets, weights = inputs
    ctx.save_for_backward(value, reference, offsets, weights)


def _multi_scale_backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    value, reference, offsets, weights = ctx.saved_tensors
    grad_value, grad_offsets, grad_weights = _OPS.multi_scale_backward(
        grad_output, value, ctx.level_shapes, reference, offsets, weights
    )
    grad_reference = _grad_reference(grad_offsets, ctx.level_shapes, reference, ctx.needs_input_grad[2])
    return grad_value, None, grad_reference, grad_offsets, grad_weights


def _key_aware_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key_value, ctx.level_shapes, reference, offsets, slots = inputs
    ctx.save_for_backward(query, key_value, reference, offsets, slots, output[1])
    ctx.set_materialize_grads(False)


def _key_aware_backward(ctx: Any, grad_output: Tensor | None, grad_logits: Tensor | None) -> tuple[Tensor | None, ...]:
    query, key_value, reference, offsets, slots, logits = ctx.saved_tensors
    if grad_output is None:
        grad_output = query.new_zeros(query.shape).flatten(2)
    grad_query, grad_key_value, grad_offsets = _OPS.key_aware_backward(
        grad_output, grad_logits, query, key_value, ctx.level_shapes, reference, offsets, slots, logits
    )
    grad_reference = _grad_reference(grad_offsets, ctx.level_shapes, reference, ctx.needs_input_grad[3])
    return grad_query, grad_key_value, None, grad_reference, grad_offsets, None


@torch.library.register_fake("taptrv2::multi_scale")
def _multi_scale_fake(
    value: Tensor, level_shapes: list[int], reference: Tensor | None, offsets: Tensor, weights: Tensor
) -> Tensor:
    return value.new_empty((value.shape[0], offsets.shape[1], value.shape[2] * value.shape[3]))


@torch.library.register_fake("taptrv2::multi_scale_backward")
def _multi_scale_backward_fake(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: list[int],
    reference: Tensor | None,
    offsets: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(t.new_empty(t.shape) for t in (value, offsets, weights))  # type: ignore[return-value]


@torch.library.register_fake("taptrv2::key_aware")
def _key_aware_fake(
    query: Tensor,
    key_value: Tensor,
    level_shapes: list[int],
    reference: Tensor | None,
    offsets: Tensor,
    slots: Tensor,
) -> tuple[Tensor, Tensor]:
    frames, queries, heads, channels = query.shape
    samples = offsets.shape[3] * offsets.shape[4]
    logits = query.new_empty((frames, queries, heads, samples), dtype=_sums(query.dtype))
    return query.new_empty((frames, queries, heads * channels)), logits


@torch.library.register_fake("taptrv2::key_aware_backward")
def _key_aware_backward_fake(
    grad_output: Tensor,
    grad_logits: Tensor | None,
    query: Tensor,
    key_value: Tensor,
    level_shapes: list[int],
    reference: Tensor | None,
    offsets: Tensor,
    slots: Tensor,
    logits: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(t.new_empty(t.shape) for t in (query, key_value, offsets))  # type: ignore[return-value]


@torch.library.register_fake("taptrv2::add_norm")
def _add_norm_fake(a: Tensor, b: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    return a.new_empty(a.shape)


@torch.library.register_fake("taptrv2::group_norm_tokens")
def _group_norm_fake(levels: list[Tensor], weights: list[Tensor], biases: list[Tensor], epsilon: float) -> Tensor:
    batch, _, channels = levels[0].shape
    return levels[0].new_empty((batch, sum(level.shape[1] for level in levels), channels))


@torch.library.register_fake("taptrv2::box_code")
def _box_code_fake(
    reference: Tensor, frequency: Tensor, phase: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    front, half = reference.shape[:-1], frequency.shape[0]
    code = reference.new_empty((*front, 4 * half), dtype=dtype)
    return reference.new_empty(reference.shape), reference.new_empty((*front, 2)), code


@torch.library.register_fake("taptrv2::move_positions")
def _move_fake(
    box: Tensor, logits: Tensor, offsets: Tensor, cells: Tensor, updated: Tensor, frequency: Tensor, phase: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    front, half = box.shape[:-1], frequency.shape[0]
    return box.new_empty((*front, 2)), logits.new_empty((*front, 4 * half)), logits.new_empty((*front, 2 * half))


@torch.library.register_fake("taptrv2::refine_boxes")
def _refine_boxes_fake(moved: Tensor, box: Tensor, reference: Tensor, updated: Tensor, delta: Tensor) -> Tensor:
    return box.new_empty(box.shape)


@torch.library.register_fake("taptrv2::frame_attention")
def _frame_attention_fake(query_key: Tensor, value: Tensor, tracked: Tensor | None, heads: int) -> Tensor:
    return value.new_empty(value.shape)


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("taptrv2_core.ops: the deformable attentions have no second derivative")


torch.library.register_autograd("taptrv2::multi_scale", _multi_scale_backward, setup_context=_multi_scale_setup)
torch.library.register_autograd("taptrv2::key_aware", _key_aware_backward, setup_context=_key_aware_setup)
for _first in ("multi_scale_backward", "key_aware_backward"):  # else torch warns and takes it to be 0
    torch.library.register_autograd(f"taptrv2::{_first}", _no_second_derivative)


@torch.library.register_fake("taptrv2::decode_window")
def _decode_window_fake(
    content: Tensor,
    reference: Tensor,
    memories: list[Tensor],
    level_shapes: list[int],
    updated: Tensor,
    tracked: Tensor | None,
    wanted: int,
    kept: Tensor | None,
    waves: Tensor,
    parameters: Tensor,
    sizes: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frames, queries, channels = content.shape
    answers = slice(None) if wanted < 0 else slice(wanted, wanted + 1)
    return tuple(content.new_empty((frames, queries, n))[answers] for n in (2, 4, 3, channels))  # type: ignore[return-value]


@torch.library.register_fake("taptrv2::project_levels")
def _project_levels_fake(features: list[Tensor], channels: int, groups: int, parameters: Tensor) -> Tensor:
    cells = sum(level.shape[2] * level.shape[3] for level in features)
    return features[0].new_empty((len(features[0]), cells, channels))


@torch.library.register_fake("taptrv2::encode_layer")
def _encode_layer_fake(
    tokens: Tensor, code: Tensor, reference: Tensor, level_shapes: list[int], parameters: Tensor, sizes: list[int]
) -> Tensor:
    return torch.empty_like(tokens)


@torch.library.register_fake("taptrv2::search_agreement")
def _search_agreement_fake(
    tokens: Tensor, level_shapes: list[int], queries: list[Tensor], nowhere: Tensor, position: Tensor, least: float
) -> Tensor:
    return torch.empty_like(nowhere)


@torch.library.register_fake("taptrv2::search_find")
def _search_find_fake(
    tokens: Tensor,
    level_shapes: list[int],
    queries: list[Tensor],
    nowhere: Tensor,
    position: Tensor,
    sure: float,
    better: float,
) -> Tensor:
    return torch.empty_like(position)


@torch.library.register_fake("taptrv2::convolve")
def _convolve_fake(images: Tensor, weight: Tensor, add: Tensor | None, outputs: int, relu: bool) -> Tensor:
    count, _, height, width = images.shape
    return images.new_empty((count, height, width, outputs)).permute(0, 3, 1, 2)


@torch.library.register_fake("taptrv2::shrink")
def _shrink_fake(image: Tensor, height: int, width: int) -> Tensor:
    return image.new_empty((height, width, 3), dtype=torch.float32)


@torch.library.register_fake("taptrv2::flow_pyramid")
def _flow_pyramid_fake(image: Tensor) -> Tensor:
    (height, width), border, line = image.shape, 22, 64  # as in csrc/flow.h
    size = (height + 2 * border) * (width + line)
    for _ in range(3):
        height, width = (height + 1) // 2, (width + 1) // 2
        if min(height, width) <= 21:
            break
        size += (height + 2 * border) * (width + line)
    return image.new_empty((size,), dtype=torch.int16)


@torch.library.register_fake("taptrv2::flow")
def _flow_fake(before: Tensor, after: Tensor, height: int, width: int, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(xy), torch.empty_like(xy), xy.new_empty((len(xy),), dtype=torch.bool)


@torch.library.register_fake("taptrv2::refine")
def _refine_fake(
    image: Tensor, xy: Tensor, rows: Tensor, features: Tensor, weight: Tensor, contrast: Tensor, parameters: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(xy), xy.new_empty((len(xy),))
