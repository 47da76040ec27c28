"""Loss of the refiner: how far the tracker is from a point, told from the patches around both, and how sure that is."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from taptrv2_core.geometry import UNIT, PixelMap, constant
from taptrv2_core.refine import Refiner, patches
from taptrv2_core.training.losses import Truth, start_positions

LUMA = (0.299, 0.587, 0.114)
ERRORS = (0.15, 2.5)
"""Standard deviations, in pixels of `UNIT`, of the tracker's errors: between these, evenly on a logarithmic scale."""
REDUCED = (1.0, 0.75, 0.5, 0.4)
"""Images are reduced by one of these."""
HIDDEN = 0.15
"""Share of the hidden points that count: of those the refiner learns to be unsure."""
FREEDOM = 4.0
"""Degrees of freedom of Student's t: errors have heavier tails than a normal distribution."""


def refine_loss(refiner: Refiner, video: Tensor, truth: Truth) -> Tensor:
    """Negative log likelihood of the true places in all frames but a query's own, up to a constant.

    Args:
        video: (B, T, 3, H, W) RGB in [0, 1].
        truth: of its points; only those inside the image count.
    """
    clips, frames = video.shape[:2]
    grey, size = _reduced(video)
    pixels = PixelMap(size, (int(video.shape[-2]), int(video.shape[-1])))
    begun = pixels.to_pixels(start_positions(truth)).repeat_interleave(frames, dim=0)
    own = truth.start[:, None, :, None, None].expand(-1, 1, -1, *patches(grey[:1], begun[:1]).shape[-2:])
    asked = patches(grey, begun).unflatten(0, (clips, frames)).gather(1, own).expand(-1, frames, -1, -1, -1)
    error = torch.randn_like(truth.position) * _drawn(ERRORS, truth.position[..., :1])
    places = pixels.to_pixels(truth.position) + error * (max(size) / UNIT)
    seen = patches(grey, places.flatten(0, 1)).unflatten(0, (clips, frames))
    others = torch.arange(frames, device=video.device)[None, :, None] != truth.start[:, None]
    counts = others & truth.inside & (truth.visible | (torch.rand(others.shape, device=video.device) < HIDDEN))
    offset, spread = refiner(refiner.look(asked[counts]), seen[counts])
    return unlikelihood(offset + error[counts], spread).mean()


def _reduced(video: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Grey levels (B * T, h, w), as a smaller camera would give them, and (h, w)."""
    factor = REDUCED[int(torch.randint(len(REDUCED), ()))]
    luma = 255 * constant(LUMA, video)[:, None, None]  # a product of matrices would be one of bfloat16
    grey = (video * luma).sum(dim=2).flatten(0, 1)
    size = (round(video.shape[-2] * factor), round(video.shape[-1] * factor))
    if factor < 1:
        grey = F.interpolate(grey.unsqueeze(1), size, mode="bilinear", antialias=True).squeeze(1)
    return grey.round(), size


def unlikelihood(miss: Tensor, spread: Tensor) -> Tensor:
    """Of misses (N, 2) under Student's t of scale exp(spread) (N,) in both directions."""
    square = miss.square().sum(dim=-1) * torch.exp(-2 * spread)
    return 2 * spread + (FREEDOM + 2) / 2 * torch.log1p(square / FREEDOM)


def _drawn(between: tuple[float, float], like: Tensor) -> Tensor:
    """Numbers of a tensor's shape between two, evenly on a logarithmic scale."""
    low, high = (math.log(value) for value in between)
    return torch.exp(low + (high - low) * torch.rand_like(like))
