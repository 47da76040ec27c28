"""Texture, brightness and mip level of every face of a scene."""

from __future__ import annotations

import torch
from torch import Tensor

from .atlas import Atlas
from .dice import Dice
from .scene import BALL, CARD, FACES, LAYER, ROOM


def dress(dice: Dice, atlas: Atlas, size: Tensor, frames: int, half: float) -> Tensor:
    """Choose a texture for every face.

    Args:
        size: (B, K, 3) length in texels of the unit vectors of the object's coordinates.
        frames: T.
        half: half of the image's larger side in pixels.

    Returns: (B * T, K * 6, 8), see `scene.SKIN`; the level still lacks the face's area, the gain is 1.
    """
    clips, count, _ = size.shape
    slot = dice.integers(0, atlas.count, clips, count, FACES)
    same = dice.chance(0.5, clips, count, 1)
    slot = torch.where(same, slot[..., :1], slot)
    x, y = atlas.corner(slot)
    first, second = [1, 1, 0, 0, 0, 0], [2, 2, 2, 2, 1, 1]  # a face's u and v among p, q, r
    su, sv = size[..., first], size[..., second]
    offset = dice.uniform(0, 2 * atlas.size, 2, clips, count, FACES)
    level = 0.5 * torch.log2(su * sv) - torch.log2(torch.tensor(half))
    skin = torch.stack((x, y, su, sv, offset[0], offset[1], level, torch.ones_like(su)), -1)
    return skin[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1).flatten(1, 2).clone()


def set_levels(skin: Tensor, kinds: tuple[int, ...], back: Tensor) -> None:
    """Add to the mip levels what depends on the pose: a pixel covers z^3 |det| / |q_k - origin_k| of face k (see
    `trace.locate`); the depth is left to the renderer. `back` is (F, K, 3, 4)."""
    turn, origin = back[..., :3], back[..., 3]
    area = torch.linalg.det(turn).abs()[..., None].expand(-1, -1, FACES)
    if kinds[0] != LAYER:
        side = torch.tensor([-1.0, 1.0] * 3, dtype=back.dtype)
        flat = torch.tensor([kind == CARD for kind in kinds])
        side = side * (~flat)[:, None]
        area = area / (side - origin.repeat_interleave(2, -1)).abs().clamp(min=1e-3)
    skin[..., 6] += 0.5 * torch.log2(area.clamp(min=1e-12)).flatten(1)


def set_shading(
    skin: Tensor, kinds: tuple[int, ...], axes: Tensor, sun: Tensor, ambient: Tensor, share: Tensor
) -> Tensor:
    """Brightness of the faces under a sun and a sky: gain = ambient + share * max(0, normal . sun).

    Args:
        axes: (F, K, 3, 3) columns are the objects' unit axes in the world.
        sun: (F, 3) direction towards the sun.
        ambient, share: (F,).

    Returns: the balls' `light`, (F, K, 3).
    """
    facing = (axes * sun[:, None, :, None]).sum(2)  # (F, K, 3)
    light = torch.stack((-facing, facing), -1).flatten(2)  # faces -x, +x, -y, ...
    kind = torch.tensor(kinds)
    light = torch.where((kind == ROOM)[:, None], -light, light)
    light = torch.where((kind == CARD)[:, None], light.abs(), light).clamp(min=0)
    ball = kind == BALL
    skin[..., 7] = (ambient[:, None, None] + share[:, None, None] * light * (~ball)[:, None]).flatten(1)
    return facing * share[:, None, None] * ball[:, None]
