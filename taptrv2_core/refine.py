"""Where exactly a point is: its surroundings laid over those in the query's own image, to parts of a pixel.

The network sees images at its input size, in cells of four pixels; a camera gives more. So a patch around the query
and one around where its point seems to be are cut from the images that optical flow has, and aligned as Lucas-Kanade
would, by Gauss-Newton steps, but on learned features with learned weights. The answer does not drift, as each is
compared with the query's own image, and it says how sure it is. It only corrects: what is some pixels away is not in
the patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.fast.prepared import Prepared
from taptrv2_core.fast.refine import FusedRefiner
from taptrv2_core.layers import mlp

SIDE = 31
"""Samples along a side of a patch."""
SAMPLES = 512
"""Samples along the longer side of an image: so a patch covers the same share of any image."""
CELLS = (SIDE + 1) // 2
"""Cells of features along a side of a patch, one a pixel of `geometry.UNIT`."""
LONGEST_STEPS = (4.0, 2.0)
"""Longer Gauss-Newton steps are drawn in towards these, in cells."""
LEAST_CONTRAST = 6.0
"""Grey levels added to a patch's standard deviation before it is divided by that: noise alone stays small."""


@dataclass(frozen=True)
class Look:
    """What is kept of N patches to align others with.

    Attributes:
        features: (N, C, `CELLS`, `CELLS`).
        weight: (N, 1, `CELLS`, `CELLS`) logits, how much a cell says of where the middle is.
        contrast: (N,) logarithm of the standard deviation of its grey levels.
    """

    features: Tensor
    weight: Tensor
    contrast: Tensor

    def kept(self, rows: Tensor) -> Look:
        """Of the patches in ``rows`` (n,) int64 alone."""
        return Look(self.features[rows], self.weight[rows], self.contrast[rows])

    def with_others(self, rows: Tensor, other: Look) -> Look:
        """With the other's in ``rows`` (n,) int64."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Look(*(mine.index_copy(0, rows, new) for mine, new in pairs))

    def joined(self, other: Look) -> Look:
        """These, then the others."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Look(*(torch.cat(pair) for pair in pairs))


def patches(images: Tensor, xy: Tensor) -> Tensor:
    """Squares around points, bilinearly sampled; beyond the image its border goes on.

    Args:
        images: (B, H, W) grey levels, 0 to 255, any type.
        xy: (B, N, 2) x, y in pixels.

    Returns:
        (B, N, `SIDE`, `SIDE`) float32.
    """
    height, width = images.shape[-2:]
    step = max(height, width) / SAMPLES
    offsets = (torch.arange(SIDE, device=xy.device) - SIDE // 2) * step
    size = torch.tensor((width, height), device=xy.device)
    x, y = ((2 * xy.float() + 1) / size - 1).unbind(-1)  # of the middle, as grid_sample counts
    columns, rows = x.unsqueeze(-1) + 2 / width * offsets, y.unsqueeze(-1) + 2 / height * offsets
    grid = torch.stack(torch.broadcast_tensors(columns.unsqueeze(-2), rows.unsqueeze(-1)), dim=-1)
    flat = grid.flatten(1, 2)
    sampled = F.grid_sample(images.float().unsqueeze(1), flat, padding_mode="border", align_corners=False)
    return sampled.unflatten(2, (-1, SIDE)).squeeze(1)


class Refiner(Prepared):
    """Aligns patches with those of the queries."""

    derived: FusedRefiner | None

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels // 2, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.context = nn.Conv2d(channels, channels, 3, padding=1, groups=4)
        self.weight = nn.Conv2d(channels, 1, 3, padding=1)
        self.doubt = nn.Conv2d(channels, 1, 1)
        place = torch.linspace(-1, 1, CELLS)
        self.middle = nn.Parameter(-2 * (place[:, None] ** 2 + place**2))
        self.damping = nn.Parameter(torch.tensor(-1.0))
        self.spread = mlp(3 * len(LONGEST_STEPS) + 4 + channels, 32, 32, 1)

    def derive(self) -> None:
        """Pack the weights for the op, where there is one for them."""
        self.derived = FusedRefiner.of(self)

    def align(self, look: Look, rows: Tensor, grey: NDArray[np.uint8], xy: Tensor) -> tuple[Tensor, Tensor]:
        """Where the middles of what was looked at are in a newer image; in one op where that is possible.

        Args:
            look: of M queries.
            rows: (N,) int64, those of them that are asked for.
            grey: (h, w).
            xy: (N, 2) x, y in its pixels, where their points seem to be.

        Returns:
            As `forward`, from ``xy`` on.
        """
        if self.derived is not None and self.derived.usable(grey):
            return self.derived(look, rows, grey, xy)
        return self(look.kept(rows), patches(torch.from_numpy(grey).unsqueeze(0), xy.unsqueeze(0))[0])  # type: ignore[no-any-return]

    def look(self, patches: Tensor) -> Look:
        """What to keep of patches (N, `SIDE`, `SIDE`), grey levels."""
        features, contrast = self._features(patches)
        return Look(features, self.weight(features).float() + self.middle, contrast)

    def forward(self, look: Look, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Where the middles of what was looked at are in patches of a newer image.

        Args:
            look: of N queries.
            patches: (N, `SIDE`, `SIDE`) grey levels, around where their points seem to be.

        Returns:
            (N, 2) x, y, how far from the patches' middles, and (N,) the logarithm of its standard deviation in x and
            in y; float32, in pixels of `geometry.UNIT`.
        """
        features, contrast = self._features(patches)
        gradient = _gradient(look.features)
        offset, seen, now = features.new_zeros(len(features), 2), [], features
        for number, longest in enumerate(LONGEST_STEPS):
            now = _moved(features, offset) if number else features
            step, told, unlike = self._step(look, gradient, now)
            step = step * (longest / (torch.linalg.vector_norm(step, dim=1, keepdim=True) + longest))
            offset = offset + step
            seen += [*told, torch.log(torch.linalg.vector_norm(step, dim=1) + 0.02)]
        # of the last step also how large weight and texture are, and which features differ
        traits = torch.stack((*seen, *unlike[:2], look.contrast, contrast), dim=1)
        spread = self.spread(torch.cat((traits, unlike[2]), dim=1)).float().squeeze(1)
        return offset, spread.clamp(-4, 3)

    def _features(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, `CELLS`, `CELLS`) of patches, whatever the light, and the logarithm of their contrast."""
        grey = patches.float()
        grey = grey - grey.mean(dim=(-1, -2), keepdim=True)
        deviation = grey.square().mean(dim=(-1, -2), keepdim=True).sqrt()
        features = self.features((grey / (deviation + LEAST_CONTRAST)).unsqueeze(1))
        features = (features + self.context(features)).float()
        return features, torch.log(deviation.flatten() + 1)

    def _step(
        self, look: Look, gradient: Tensor, now: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """One Gauss-Newton step (N, 2) in cells, and what it tells of how good it is."""
        difference = look.features - now
        unlike = difference.abs()
        weight = torch.sigmoid(look.weight - self.doubt(unlike).float())
        rows = (torch.cat((gradient, difference.unsqueeze(1)), dim=1) * weight.sqrt().unsqueeze(1)).flatten(2)
        products = torch.bmm(rows, rows.transpose(1, 2))  # of x gradient, y gradient and difference
        damping = F.softplus(self.damping)
        xx, yy, xy = products[:, 0, 0] + damping, products[:, 1, 1] + damping, products[:, 0, 1]
        x, y = products[:, 0, 2], products[:, 1, 2]
        step = torch.stack((yy * x - xy * y, xx * y - xy * x), dim=1) / (xx * yy - xy * xy + 1e-6).unsqueeze(1)
        total = weight.sum(dim=(1, 2, 3)) + 0.1
        least = (xx + yy - ((xx - yy).square() + 4 * xy.square() + 1e-6).sqrt()) / 2
        told = torch.log(least.clamp(min=1e-4)), torch.log(products[:, 2, 2] / total + 1e-4)
        share = (weight / total[:, None, None, None]).flatten(2).transpose(1, 2)
        return step, told, (torch.log(total), torch.log(xx + yy), torch.bmm(unlike.flatten(2), share).squeeze(2))


def _gradient(features: Tensor) -> Tensor:
    """By cells to the right and down, (N, 2, C, H, W) of (N, C, H, W)."""
    padded = F.pad(features, (1, 1, 1, 1), mode="replicate")
    right = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.stack((right, down), dim=1) / 2


def _moved(features: Tensor, offset: Tensor) -> Tensor:
    """Features around a place that is offset (N, 2) cells from the middle."""
    height, width = features.shape[-2:]
    unit = torch.eye(2, 3, device=features.device).unsqueeze(0)
    grid = F.affine_grid(unit, [1, 1, height, width], align_corners=False) + (offset * 2 / width)[:, None, None]
    return F.grid_sample(features, grid, padding_mode="border", align_corners=False)
