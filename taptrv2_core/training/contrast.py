"""Contrastive loss on memory: a query's feature must find its point in other frames among places near and far.

Without it a network from scratch stays long at "never moves": the position update can only follow attention logits that
already tell the right place from its neighbours. The logits are those of the decoder's first layer.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from taptrv2_core.geometry import constant
from taptrv2_core.model import Memory, Taptr
from taptrv2_core.training.losses import Truth, start_positions
from taptrv2_core.training.unroll import Encoded, initial_content

NEAR = (0.7, 4.0)
FAR = (4.0, 16.0)
"""Distances of negatives from the true place, in cells of the level."""


def contrastive_loss(
    model: Taptr, encoded: Encoded, truth: Truth, near: int = 8, far: int = 4, frames: int = 3
) -> Tensor:
    """Cross entropy of the true place in ``frames`` random frames of the clips, a head and level at a time.

    Negatives: ``near`` places 0.7 to 4 cells beside it, ``far`` ones 4 to 16 cells away, and all other queries' places
    in that frame that are at least 0.7 cells away. Only frames where the point is visible, other than its own, count.
    """
    attention = model.transformer.decoder.layers[0].cross_attn
    heads = attention.sample_shape[0]
    chosen = torch.randperm(encoded.frames, device=truth.start.device)[:frames]
    query = attention.query_proj(initial_content(model, encoded, truth.start, start_positions(truth)))
    query = query.unflatten(-1, (heads, -1)).float().repeat_interleave(len(chosen), dim=0)
    weight = truth.visible[:, chosen] & (chosen[None, :, None] != truth.start[:, None])
    weight = weight.flatten(0, 1).float()
    places = truth.position[:, chosen].flatten(0, 1)
    tokens = encoded.memory.tokens[encoded.rows(chosen)]
    memory = Memory(tokens, encoded.memory.level_shapes)
    losses = []
    for level, shape in enumerate(encoded.memory.level_shapes):
        cells = constant((shape[1], shape[0]), places)
        offsets = _ring_offsets(places, near, far) / cells
        candidates = torch.cat((places.unsqueeze(2), places.unsqueeze(2) + offsets), dim=2)
        keys = attention.key_proj(_sample(memory, level, candidates)).unflatten(-1, (heads, -1)).float()
        scale = keys.shape[-1] ** -0.5
        logits = torch.einsum("bnmd,bnjmd->bnmj", query, keys) * scale
        others = torch.einsum("bnmd,bkmd->bnmk", query, keys[:, :, 0]) * scale
        apart = torch.linalg.vector_norm((places[:, :, None] - places[:, None]) * cells, dim=-1) > NEAR[0]
        usable = apart & _inside(places)[:, None]
        others = others.masked_fill(~usable.unsqueeze(2), float("-inf"))
        logits = torch.cat((logits[..., :1], _only_inside(logits[..., 1:], candidates[:, :, 1:]), others), dim=-1)
        loss = -F.log_softmax(logits, dim=-1)[..., 0].mean(-1)
        losses.append((loss * weight).sum() / weight.sum().clamp(min=1))
    return torch.stack(losses).mean()


def _ring_offsets(places: Tensor, near: int, far: int) -> Tensor:
    """(B, N, near + far, 2) random offsets in cells."""
    shape = (*places.shape[:2], near + far)
    angle = 2 * torch.pi * torch.rand(shape, device=places.device)
    share = torch.rand(shape, device=places.device)
    low = constant([NEAR[0]] * near + [FAR[0]] * far, places)
    high = constant([NEAR[1]] * near + [FAR[1]] * far, places)
    radius = low + share * (high - low)
    return torch.stack((angle.cos() * radius, angle.sin() * radius), dim=-1)


def _inside(position: Tensor) -> Tensor:
    return ((position >= 0) & (position <= 1)).all(-1)


def _only_inside(logits: Tensor, candidates: Tensor) -> Tensor:
    return logits.masked_fill(~_inside(candidates).unsqueeze(2), float("-inf"))


def _sample(memory: Memory, level: int, places: Tensor) -> Tensor:
    """Memory of one level at places (R, N, J, 2) in [0, 1] -> (R, N, J, C), half-cell centres."""
    sizes = [height * width for height, width in memory.level_shapes]
    image = memory.tokens.split(sizes, dim=1)[level].transpose(1, 2).unflatten(-1, memory.level_shapes[level])
    grid = (2 * places - 1).to(image.dtype)
    return F.grid_sample(image, grid, align_corners=False, padding_mode="border").permute(0, 2, 3, 1)
