"""The public functions: shapes documented here, work done by `fused` or `reference`."""

from __future__ import annotations

from torch import Tensor

from taptrv2_core.ops import reference as _reference
from taptrv2_core.ops.backend import fused_for
from taptrv2_core.ops.reference import LevelShapes


def multi_scale_deformable_attention(
    value: Tensor, level_shapes: LevelShapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples of all levels (Deformable DETR; the encoder's attention in TAPTRv2).

    Args:
        value: (B, S, M, D), tokens of all levels, finest first, row by row; float32, bfloat16, float16 or float64.
        level_shapes: (height, width) of the L levels, S = sum(height * width).
        locations: (B, Q, M, L, P, 2), (x, y), 0 and 1 the image's borders (a cell's centre is at (column + 0.5) /
            width); float32, or float64 with a float64 value. Samples outside, or not finite, count as zero.
        weights: (B, Q, M, L, P), used as they are; float32 or the value's dtype.

    Returns:
        (B, Q, M * D) in the value's dtype; head m has channels m * D to (m + 1) * D - 1. Sums are made in float32 or
        better.

    Raises:
        RuntimeError or ValueError: shapes or dtypes that do not fit each other.
    """
    if fused_for(value):
        from taptrv2_core.ops import fused

        return fused.multi_scale(value, level_shapes, None, locations, weights)
    return _reference.multi_scale_deformable_attention(value, level_shapes, locations, weights)


def key_aware_deformable_attention(
    query: Tensor, key_value: Tensor, level_shapes: LevelShapes, locations: Tensor, slots: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention whose weights are query-key products at sampled keys (TAPTRv2, the decoder's cross attention).

    Args:
        query: (F, N, M, D), float32, bfloat16, float16 or float64.
        key_value: (R, S, M, 2, D), the ring: for each slot, token and head the key (0) and the value (1), in the
            query's dtype. Slots and tokens may be strided; the last three dimensions are read without a copy if they
            are contiguous.
        level_shapes: (height, width) of the L levels, finest first, S = sum(height * width).
        locations: (F, N, M, L, P, 2), (x, y) as in `multi_scale_deformable_attention`.
        slots: (F,) int64 in [0, R): the slot of each frame. Slots may repeat.

    Returns:
        output (F, N, M * D) in the query's dtype, the samples' values weighted by the softmax of the logits over all
        L * P samples of the head; logits (F, N, M, L * P) = <query, sampled key> / sqrt(D), level by level, float32
        (float64 for float64).

    Raises:
        RuntimeError or ValueError: shapes or dtypes that do not fit each other, or a slot out of range.
    """
    if fused_for(query):
        from taptrv2_core.ops import fused

        return fused.key_aware(query, key_value, level_shapes, None, locations, slots)
    return _reference.key_aware_deformable_attention(query, key_value, level_shapes, locations, slots)


def multi_scale_deformable_attention_from_offsets(
    value: Tensor, level_shapes: LevelShapes, reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """`multi_scale_deformable_attention` that does the offset arithmetic and the softmax inside.

    The same as locations = reference + offsets / (width, height) of the level and weights = softmax of the logits over
    the L * P samples of a head, without these tensors ever being in memory.

    Args:
        value: (B, S, M, D).
        level_shapes: (height, width) of the L levels, finest first, S = sum(height * width).
        reference: (B, Q, 2) or (1, Q, 2), (x, y) in [0, 1]; float32, or float64 with a float64 value.
        offsets: (B, Q, M, L, P, 2), (x, y) in cells of the sampled level; float32 or the value's dtype.
        logits: (B, Q, M, L, P), of the attention weights; float32 or the value's dtype.

    Returns:
        (B, Q, M * D) in the value's dtype.

    Raises:
        RuntimeError or ValueError: shapes or dtypes that do not fit each other.
    """
    if fused_for(value):
        from taptrv2_core.ops import fused

        return fused.multi_scale(value, level_shapes, reference, offsets, logits)
    return _reference.multi_scale_deformable_attention_from_offsets(value, level_shapes, reference, offsets, logits)


def key_aware_deformable_attention_from_offsets(
    query: Tensor, key_value: Tensor, level_shapes: LevelShapes, reference: Tensor, offsets: Tensor, slots: Tensor
) -> tuple[Tensor, Tensor]:
    """`key_aware_deformable_attention` at locations = reference + offsets / (width, height) of the level.

    Args:
        query: (F, N, M, D).
        key_value: (R, S, M, 2, D), the ring.
        level_shapes: (height, width) of the L levels, finest first, S = sum(height * width).
        reference: (F, N, 2), (x, y) in [0, 1]; float32, or float64 with a float64 query.
        offsets: (F, N, M, L, P, 2), (x, y) in cells of the sampled level; float32 or the query's dtype.
        slots: (F,) int64 in [0, R).

    Returns:
        output (F, N, M * D) and logits (F, N, M, L * P) as of `key_aware_deformable_attention`.

    Raises:
        RuntimeError or ValueError: shapes or dtypes that do not fit each other, or a slot out of range.
    """
    if fused_for(query):
        from taptrv2_core.ops import fused

        return fused.key_aware(query, key_value, level_shapes, reference, offsets, slots)
    return _reference.key_aware_deformable_attention_from_offsets(
        query, key_value, level_shapes, reference, offsets, slots
    )
