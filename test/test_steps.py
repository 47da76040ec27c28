"""The functions between the products of a step: plain PyTorch against the formulas, and on a GPU the kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from taptrv2_core.geometry import sine_code, waves
from taptrv2_core.layers import MultiHeadAttention
from taptrv2_core.ops import steps
from taptrv2_core.ops.backend import library_loaded

TOLERANCE = {torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}
ROWS = (1, 8, 5)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
on_gpu = pytest.mark.parametrize("dtype", [pytest.param(dtype, marks=needs_gpu) for dtype in TOLERANCE])


def normal(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(seed))


def positions(half: int = 128, samples: int = 128) -> tuple[Tensor, ...]:
    """Box, logits, offsets, cells, updated."""
    g = torch.Generator().manual_seed(3)
    cells = torch.randint(4, 129, (samples, 2), generator=g).float()
    updated = torch.rand(*ROWS, 1, generator=g) > 0.3
    return torch.rand(*ROWS, 4, generator=g), normal(*ROWS, samples), 9 * normal(*ROWS, samples, 2), cells, updated


def close(ours: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(ours.float().cpu(), expected.float(), rtol=tolerance, atol=tolerance)


def test_positions_move_by_the_mean_of_their_offsets() -> None:
    box, logits, offsets, cells, updated = positions()
    box = 0.3 + 0.4 * box
    moved, code, travelled = steps.move_positions(box, logits, offsets, cells, updated, 16)
    shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
    expected = box[..., :2] + (shares[..., None] * offsets / cells).sum(-2)
    torch.testing.assert_close(moved, torch.where(updated, expected, box[..., :2]))
    torch.testing.assert_close(code, sine_code(torch.cat((moved, box[..., 2:]), -1), 16))
    torch.testing.assert_close(travelled, sine_code(moved - box[..., :2], 16))


def test_boxes_are_refined_where_they_are_updated() -> None:
    box, updated = positions()[0], positions()[4]
    box, reference, delta = 0.1 + 0.8 * box, normal(*ROWS, 4), normal(*ROWS, 4, seed=1)
    refined = steps.refine_boxes(box[..., :2], box, reference, updated, delta)
    torch.testing.assert_close(refined, torch.where(updated, box.logit() + delta, reference))


def test_gradients_are_left_to_plain_pytorch() -> None:
    """Also on a GPU: none of the kernels has one."""
    norm, a, b = nn.LayerNorm(32), normal(3, 32).requires_grad_(), normal(3, 32, seed=1)
    steps.add_norm(norm, a, b).sum().backward()
    assert a.grad is not None and norm.weight.grad is not None
    assert not steps.as_kernels(torch.empty(0))


@pytest.mark.skipif(not library_loaded(), reason="the fused ops are not built")
def test_shapes_of_the_kernels_are_those_of_plain_pytorch() -> None:
    """As torch.compile would work them out, without running anything."""
    ops, box = torch.ops.taptrv2, positions()[0]
    code = [t.to("meta") for t in waves(128, torch.float32, torch.device("cpu"))]
    shaped = [t.to("meta") for t in positions()]
    expected = steps.move_positions(*positions(), 128)
    assert [t.shape for t in ops.move_positions(*shaped, *code)] == [t.shape for t in expected]
    coded = ops.box_code(shaped[0], *code, torch.bfloat16)
    expected = steps.box_code(box, torch.empty(256, dtype=torch.bfloat16))
    assert [(t.shape, t.dtype) for t in coded] == [(t.shape, t.dtype) for t in expected]
    assert ops.refine_boxes(coded[1], shaped[0], shaped[0], shaped[4], shaped[0]).shape == box.shape
    assert ops.add_norm(shaped[1], shaped[1], code[0], code[0], 1e-5).shape == shaped[1].shape
    levels = [normal(2, n, 128).to("meta") for n in (12, 3)]
    assert ops.group_norm_tokens(levels, code, code, 1e-5).shape == (2, 15, 128)
    assert ops.frame_attention(levels[0], levels[0], None, 4).shape == (2, 12, 128)


@on_gpu
@torch.inference_mode()
def test_kernels_of_positions(dtype: torch.dtype) -> None:
    box, logits, offsets, cells, updated = positions()
    logits, offsets, delta = logits.to(dtype), offsets.to(dtype), normal(*ROWS, 4).to(dtype)
    given = [t.cuda() for t in (box, logits, offsets, cells, updated)]
    assert steps.as_kernels(given[1])
    expected = steps.move_positions(box, logits, offsets, cells, updated, 128)
    for ours, theirs in zip(steps.move_positions(*given, 128), expected, strict=True):
        close(ours, theirs, dtype)
    like, reference = torch.empty(256, dtype=dtype), normal(*ROWS, 4)
    for ours, theirs in zip(
        steps.box_code(reference.cuda(), like.cuda()), steps.box_code(reference, like), strict=True
    ):
        close(ours, theirs, dtype)
    moved = expected[0]
    ours = steps.refine_boxes(moved.cuda(), given[0], reference.cuda(), given[4], delta.cuda())
    close(ours, steps.refine_boxes(moved, box, reference, updated, delta), dtype)


@needs_gpu
def test_kernels_as_ops() -> None:
    """Schemas and shapes are what the kernels do."""
    ops, code = torch.ops.taptrv2, waves(128, torch.float32, torch.device("cuda"))
    box, logits, offsets, cells, updated = (t.cuda() for t in positions())
    levels = [normal(2, n, 128).cuda() for n in (12, 3)]
    calls = [
        (ops.move_positions, (box, logits, offsets, cells, updated, *code)),
        (ops.box_code, (box, *code, torch.float16)),
        (ops.refine_boxes, (box[..., :2], box, box, updated, box)),
        (ops.add_norm, (logits, logits, *code, 1e-5)),
        (ops.group_norm_tokens, (levels, code, code, 1e-5)),
        (ops.frame_attention, (normal(2, 12, 256).cuda(), levels[0], None, 4)),
    ]
    for op, arguments in calls:
        torch.library.opcheck(op.default, arguments, test_utils=("test_schema", "test_faketensor"))


@on_gpu
@pytest.mark.parametrize("channels", [128, 256, 512])
@torch.inference_mode()
def test_kernel_of_sum_and_norm(dtype: torch.dtype, channels: int) -> None:
    norm = nn.LayerNorm(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm, a, b = norm.to(dtype), (normal(7, channels) + 3).to(dtype), normal(7, channels, seed=1).to(dtype)
    expected = nn.functional.layer_norm(a.float() + b.float(), (channels,), norm.weight.float(), norm.bias.float())
    close(steps.add_norm(norm.cuda(), a.cuda(), b.cuda()), expected, dtype)


@on_gpu
@pytest.mark.parametrize("channels", [128, 256])
@torch.inference_mode()
def test_kernel_of_level_tokens(dtype: torch.dtype, channels: int) -> None:
    torch.manual_seed(0)
    sizes = ((8, 20, 30), (16, 11, 13), (8, 2, 64), (8, 1, 1))
    levels = [(normal(2, *size, seed=i) + 2).to(dtype).float() for i, size in enumerate(sizes)]
    projections = [nn.Sequential(nn.Conv2d(size[0], channels, 1), nn.GroupNorm(32, channels)) for size in sizes]
    for projection in projections:
        nn.init.normal_(projection[1].weight)
        projection.to(dtype).float()
    expected = steps.level_tokens(projections, levels)
    there = [level.cuda().to(dtype, memory_format=torch.channels_last) for level in levels]
    close(steps.level_tokens([p.cuda().to(dtype) for p in projections], there), expected, dtype)


@on_gpu
@pytest.mark.parametrize("heads", [4, 8])
@pytest.mark.parametrize("masked", [False, True])
@torch.inference_mode()
def test_kernel_of_attention_between_frames(dtype: torch.dtype, heads: int, masked: bool) -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(32 * heads, heads).to(dtype).float()
    features, position = (normal(*ROWS, 32 * heads, seed=i).to(dtype).float() for i in range(2))
    tracked = torch.rand(ROWS, generator=torch.Generator().manual_seed(0)) > 0.4 if masked else None
    by_query = None if tracked is None else tracked.transpose(1, 2)
    mask = None if by_query is None else by_query[..., None] == by_query[..., None, :]
    expected = attention(features, position, mask, along=1)
    there = None if tracked is None else tracked.cuda()
    ours = attention.cuda().to(dtype)(features.cuda().to(dtype), position.cuda().to(dtype), None, 1, there)
    close(ours, expected, dtype)
