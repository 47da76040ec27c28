"""The deformable attentions in plain PyTorch: the definition that the fused ops are held to, and the fallback.

Differentiable, on any device, in any floating dtype. Half precision is computed in float32 and rounded once at the end.
Shapes are those of `taptrv2_core.ops`: B batches, F frames, Q or N queries, R ring slots, S tokens, M heads,
D channels of a head, L levels, P points a level. Positions are (x, y) in [0, 1], level shapes (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LevelShapes = Sequence[tuple[int, int]]

_OUTSIDE = 10.0
"""Stands for a position that is not finite; far outside, in the -1..1 coordinates of `grid_sample`."""


def multi_scale_deformable_attention(
    value: Tensor, level_shapes: LevelShapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """See `taptrv2_core.ops.multi_scale_deformable_attention`."""
    compute = _compute_dtype(value.dtype)
    sampled = sample_levels(value.to(compute), level_shapes, locations.to(compute))
    flat = weights.to(compute).flatten(3).transpose(1, 2).flatten(0, 1)  # (B * M, Q, L * P)
    return _merge_heads((sampled * flat[:, None]).sum(-1), value.shape[0]).to(value.dtype)


def key_aware_deformable_attention(
    query: Tensor, key_value: Tensor, level_shapes: LevelShapes, locations: Tensor, slots: Tensor
) -> tuple[Tensor, Tensor]:
    """See `taptrv2_core.ops.key_aware_deformable_attention`."""
    compute = _compute_dtype(query.dtype)
    frames, queries, heads, channels = query.shape
    ring = key_value[slots].flatten(3).to(compute)  # (F, S, M, 2 * D)
    keys, values = sample_levels(ring, level_shapes, locations.to(compute)).split(channels, 1)
    scaled = query.to(compute).permute(0, 2, 3, 1).reshape(frames * heads, channels, queries, 1) * channels**-0.5
    logits = (keys * scaled).sum(1)  # (F * M, N, L * P)
    output = (values * logits.softmax(-1)[:, None]).sum(-1)
    logits = logits.view(frames, heads, queries, logits.shape[-1]).transpose(1, 2)
    return _merge_heads(output, frames).to(query.dtype), logits


def multi_scale_deformable_attention_from_offsets(
    value: Tensor, level_shapes: LevelShapes, reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """See `taptrv2_core.ops.multi_scale_deformable_attention_from_offsets`."""
    compute = _compute_dtype(value.dtype)
    weights = logits.to(compute).flatten(3).softmax(-1).view(logits.shape)
    locations = locations_from_offsets(reference.expand(value.shape[0], -1, -1), offsets, level_shapes)
    return multi_scale_deformable_attention(value, level_shapes, locations, weights)


def key_aware_deformable_attention_from_offsets(
    query: Tensor, key_value: Tensor, level_shapes: LevelShapes, reference: Tensor, offsets: Tensor, slots: Tensor
) -> tuple[Tensor, Tensor]:
    """See `taptrv2_core.ops.key_aware_deformable_attention_from_offsets`."""
    locations = locations_from_offsets(reference, offsets, level_shapes)
    return key_aware_deformable_attention(query, key_value, level_shapes, locations, slots)


def sample_levels(tokens: Tensor, level_shapes: LevelShapes, locations: Tensor) -> Tensor:
    """Sample `tokens` (B, S, M, E) at `locations` (B, Q, M, L, P, 2): bilinear, zero outside, half-cell centres.

    Returns (B * M, E, Q, L * P), the layout that `grid_sample` gives.
    """
    batch, _, heads, channels = tokens.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).nan_to_num(_OUTSIDE, _OUTSIDE, _OUTSIDE)
    sampled = []
    sizes = [height * width for height, width in level_shapes]
    for level, part in enumerate(tokens.split(sizes, 1)):
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, *level_shapes[level])
        grid = grids[:, :, :, level].transpose(1, 2).reshape(batch * heads, queries, points, 2)
        sampled.append(functional.grid_sample(image, grid, "bilinear", "zeros", align_corners=False))
    return torch.cat(sampled, -1)


def locations_from_offsets(reference: Tensor, offsets: Tensor, level_shapes: LevelShapes) -> Tensor:
    """Locations in [0, 1]: reference (B, Q, 2) in [0, 1] + offsets (B, Q, M, L, P, 2) in cells of the sampled level."""
    cells = torch.tensor([(width, height) for height, width in level_shapes], device=offsets.device)
    return reference[:, :, None, None, None] + offsets.to(reference.dtype) / cells[:, None].to(reference.dtype)


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _merge_heads(output: Tensor, batch: int) -> Tensor:
    """(B * M, D, Q) -> (B, Q, M * D)."""
    return output.unflatten(0, (batch, -1)).flatten(1, 2).transpose(1, 2)
