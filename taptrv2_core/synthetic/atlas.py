"""The pool of textures: one large image with all of them at all mip levels, and the look-up of many texels at once."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from .config import ClipConfig
from .dice import Dice
from .textures import paint

SMALLEST = 8
PHOTO_SHARE = 0.25
"""Of the training split's textures, where there are photographs."""
PHOTOS = (
    (
        "skimage",
        "data",
        ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "rocket.jpg"),
    ),
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
)


class Atlas:
    """Textures at all mip levels in one image, (3, AH, AW). A texture is a pure function of (seed, slot, version), and
    the version of a slot one of the batch's index, so the pool at any batch can be made afresh.

    A tile is S wide and 2 S high: level l lies at its left edge, at 2 S (1 - 2^-l), S / 2^l wide.
    """

    def __init__(self, config: ClipConfig, device: torch.device | str, seed: int) -> None:
        self.config, self.device, self.seed = config, device, seed
        self.size, self.count = config.texels, config.textures
        self.columns = math.ceil(math.sqrt(2 * self.count))
        rows = math.ceil(self.count / self.columns)
        self.levels = int(math.log2(self.size / SMALLEST)) + 1
        self.image = torch.zeros(1, 3, rows * 2 * self.size, self.columns * self.size, device=device)
        self.versions = [-1] * self.count
        self.photos = photo_textures() if config.photos and config.split == "train" else []

    def refresh(self, batch: int) -> None:
        """Bring the pool to the state it has at this batch."""
        every = self.config.refresh_every
        for slot in range(self.count):
            version = (batch // every + slot) // self.count if every else 0
            if version != self.versions[slot]:
                self._fill(slot, version)

    def corner(self, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Top left texel of textures' tiles."""
        return slot % self.columns * self.size, slot // self.columns * (2 * self.size)

    def _fill(self, slot: int, version: int) -> None:
        dice = Dice(1 if self.config.split == "train" else 2, self.seed, slot, version)
        if self.photos and dice.number(0, 1) < PHOTO_SHARE:
            level = _cut_photo(self.photos[dice.integer(0, len(self.photos))], dice, self.size).to(self.device)
        else:
            level = paint(self.config.split, dice, self.size, self.device)
        x, y = self.corner(torch.tensor(slot))
        left, top = int(x), int(y)
        for _ in range(self.levels):
            side = level.shape[-1]
            self.image[0, :, top : top + side, left : left + side] = level
            top += side
            level = avg_pool2d(level[None], 2)[0]
        self.versions[slot] = version

    def sample(self, u: Tensor, v: Tensor, x: Tensor, y: Tensor, level: Tensor) -> Tensor:
        """Colours, (3, F, H, W), bilinear, at texel coordinates u, v (F, H, W; mirrored beyond the texture) of the
        tiles at x, y, at mip levels rounded to the nearest."""
        # Mirrored copies make the pattern's period twice the texture, and need no seamless texture.
        shrink = torch.exp2(-level.round().clamp_(0, self.levels - 1))
        top = (1 - shrink) * (2 * self.size)
        side = shrink * self.size
        column = torch.minimum((self._mirror(u) * shrink).clamp_(min=0.5), side - 0.5) + x
        row = torch.minimum((self._mirror(v) * shrink).clamp_(min=0.5), side - 0.5) + y + top
        height, width = self.image.shape[2:]
        grid = torch.empty(1, *u.shape, 2, device=u.device)
        torch.sub(column * (2 / width), 1, out=grid[0, ..., 0])
        torch.sub(row * (2 / height), 1, out=grid[0, ..., 1])
        colours = grid_sample(self.image, grid.flatten(1, -3), align_corners=False, padding_mode="border")
        return colours.view(3, *u.shape)

    def _mirror(self, u: Tensor) -> Tensor:
        period = 2.0 * self.size
        return self.size - ((u - (u / period).floor_() * period) - self.size).abs_()


def photo_textures() -> list[Tensor]:
    """Photographs that lie inside the packages scikit-image and scikit-learn, (3, H, W) in [0, 1]; those of a package
    that is not installed are left out. Nothing is downloaded. Licences: docs/synthetic.md."""
    images: list[Tensor] = []
    for package, folder, names in PHOTOS:
        found = find_spec(package)
        for place in (found.submodule_search_locations or []) if found else []:
            paths = [Path(place, folder, name) for name in names]
            pictures = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in paths if path.is_file()]
            images += [
                torch.from_numpy(p[..., ::-1] / np.float32(255)).permute(2, 0, 1) for p in pictures if p is not None
            ]
    return images


def _cut_photo(photo: Tensor, dice: Dice, size: int) -> Tensor:
    side = int(min(photo.shape[1:]) * dice.number(0.4, 1.0))
    top, left = dice.integer(0, photo.shape[1] - side + 1), dice.integer(0, photo.shape[2] - side + 1)
    cut = photo[None, :, top : top + side, left : left + side]
    cut = interpolate(cut, (size, size), mode="bilinear", align_corners=False, antialias=True)[0]
    if dice.number(0, 1) < 0.5:
        cut = cut.flip(2)
    order = torch.randperm(3, generator=dice.generator) if dice.number(0, 1) < 0.3 else torch.arange(3)
    return cut[order].clamp(0, 1)
