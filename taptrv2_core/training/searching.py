"""Loss of the search for lost points: cross entropy of the true cell, or of "nowhere"."""

from __future__ import annotations

import torch
from torch import Tensor

from taptrv2_core.geometry import constant
from taptrv2_core.model import Taptr
from taptrv2_core.training.losses import Truth, start_positions
from taptrv2_core.training.unroll import Encoded, initial_content


def search_loss(model: Taptr, encoded: Encoded, truth: Truth, frames: int | None = None) -> Tensor:
    """Mean over queries and frames but their own: so many random ``frames``, or all.

    A visible point's probability is shared between the four cells around it, as in bilinear interpolation. Only the
    search learns from it: features stay as they are.
    """
    assert model.search is not None
    chosen = torch.arange(encoded.frames, device=truth.start.device)
    if frames is not None:
        chosen = torch.randperm(encoded.frames, device=truth.start.device)[:frames]
    tokens, shapes = encoded.memory.tokens[encoded.rows(chosen)].detach(), encoded.memory.level_shapes
    initial = initial_content(model, encoded, truth.start, start_positions(truth)).detach()
    shares = model.search(tokens, shapes, initial.repeat_interleave(len(chosen), dim=0))
    position, visible = truth.position[:, chosen], truth.visible[:, chosen]
    shares = shares.unflatten(0, visible.shape[:2])
    height, width = shapes[0]
    cell = position * constant((width, height), position) - 0.5
    corner = cell.floor()
    likely = shares.new_zeros(visible.shape)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        place = corner + constant((dx, dy), corner)
        weight = (1 - (cell - place).abs()).clamp(min=0).prod(dim=-1)
        x, y = place[..., 0].clamp(0, width - 1), place[..., 1].clamp(0, height - 1)
        index = (y * width + x).long()
        likely = likely + weight * shares.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    likely = torch.where(visible, likely, shares[..., -1])
    counted = (chosen[None, :, None] != truth.start[:, None]).to(likely.dtype)
    return -(likely * counted).sum() / counted.sum()
