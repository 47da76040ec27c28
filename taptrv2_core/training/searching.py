"""Loss of the search for lost points: cross entropy of the true cell, or of "nowhere"."""

from __future__ import annotations

import torch
from torch import Tensor

from taptrv2_core.model import Taptr
from taptrv2_core.training.losses import Truth, start_positions
from taptrv2_core.training.unroll import Encoded, initial_content


def search_loss(model: Taptr, encoded: Encoded, truth: Truth) -> Tensor:
    """Mean over queries and all frames but their own. A visible point's probability is shared between the four cells
    around it, as in bilinear interpolation. Only the search learns from it: features stay as they are."""
    assert model.search is not None
    tokens, shapes = encoded.memory.tokens.detach(), encoded.memory.level_shapes
    initial = initial_content(model, encoded, truth.start, start_positions(truth)).detach()
    shares = model.search(tokens, shapes, initial.repeat_interleave(encoded.frames, dim=0))
    shares = shares.unflatten(0, truth.visible.shape[:2])
    height, width = shapes[0]
    cell = truth.position * truth.position.new_tensor([width, height]) - 0.5
    corner = cell.floor()
    likely = shares.new_zeros(truth.visible.shape)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        place = corner + corner.new_tensor([dx, dy])
        weight = (1 - (cell - place).abs()).clamp(min=0).prod(dim=-1)
        x, y = place[..., 0].clamp(0, width - 1), place[..., 1].clamp(0, height - 1)
        index = (y * width + x).long()
        likely = likely + weight * shares.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    likely = torch.where(truth.visible, likely, shares[..., -1])
    frames = torch.arange(encoded.frames, device=truth.start.device)
    counted = (frames[None, :, None] != truth.start[:, None]).to(likely.dtype)
    return -(likely * counted).sum() / counted.sum()
