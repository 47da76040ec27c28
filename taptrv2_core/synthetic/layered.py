"""Layered 2D scenes: a background and objects in depth order under homographies, bending, jointed, coming and going."""

from __future__ import annotations

import torch
from torch import Tensor

from .atlas import Atlas
from .config import ClipConfig
from .dice import Dice, path
from .scene import LAYER, Scene
from .shapes import COUNT
from .skins import dress, set_levels

WAVES = 2


def build_layered(dice: Dice, config: ClipConfig, atlas: Atlas, speed: Tensor) -> Scene:
    """Scenes of B clips; `speed` (B,)."""
    clips, frames = len(speed), config.frames
    time = torch.arange(frames, dtype=torch.float64) / 24
    count = 1 + dice.integer(8, 13)
    home = _objects(dice, config, time, speed, count - 1)
    camera = _camera(dice, config, time, speed, count)
    whole = torch.cat((torch.eye(3, dtype=torch.float64).expand(clips, frames, 1, 3, 3), home), 2)
    pose = (camera @ whole).flatten(0, 1)  # (F, K, 3, 3)
    back = torch.linalg.inv(pose)
    zero = torch.zeros_like(pose[..., :1])
    half = max(config.width, config.height) / 2
    # the length of an object's unit vectors: on the image in the first frame, times a random sharpness
    scale = torch.linalg.vector_norm(whole[:, 0, :, :2, :2], dim=-2) * half  # (B, K, 2)
    texels = scale * dice.log_uniform(0.7, 2.5, clips, count, 1)
    texels[:, 0].clamp_(max=0.6 * atlas.size)  # the image shows hardly more than the texture and its mirrored copy
    skin = dress(dice, atlas, torch.cat((texels, texels[..., :1]), -1), frames, half)
    back4 = torch.cat((back, zero), -1)
    kinds = (LAYER,) * count
    set_levels(skin, kinds, back4)
    order = torch.arange(1, count + 1, dtype=torch.float64).expand(len(pose), -1)
    shape = dice.integers(0, COUNT, clips, count)
    shape[:, 0] = -1
    return Scene(
        kinds=kinds,
        pose=torch.cat((pose[..., :2], zero, pose[..., 2:]), -1),
        back=back4,
        order=order,
        bend=_bending(dice, time, speed, count),
        shape=shape.repeat_interleave(frames, 0).double(),
        skin=skin,
        light=torch.zeros(len(pose), count, 3, dtype=torch.float64),
        sun_pose=torch.zeros(len(pose), 0, 3, 4, dtype=torch.float64),
        to_sun=torch.zeros(len(pose), 3, 4, dtype=torch.float64),
        ambient=torch.ones(len(pose), dtype=torch.float64),
    )


def _camera(dice: Dice, config: ClipConfig, time: Tensor, speed: Tensor, count: int) -> Tensor:
    """(B, T, K, 3, 3): pan, zoom, roll and perspective of the camera; nearer layers pan more."""
    clips = len(speed)
    still = dice.chance(0.15, clips)
    size = torch.where(still, 0.02, 0.22) * speed
    move = path(config.split, dice, time, 5, clips) * size[:, None]
    parallax = 1 + torch.linspace(0, 1, count, dtype=torch.float64) * dice.uniform(0, 0.8, clips, 1)
    zoom, roll = (move[2] * 0.4).clamp(-1.2, 1.2).exp(), move[3] * 0.5
    out = torch.zeros(clips, len(time), count, 3, 3, dtype=torch.float64)
    out[..., 0, 0] = out[..., 1, 1] = (zoom * roll.cos())[..., None]
    out[..., 1, 0] = (zoom * roll.sin())[..., None]
    out[..., 0, 1] = -out[..., 1, 0]
    out[..., 0, 2] = move[0][..., None] * parallax[:, None]
    out[..., 1, 2] = move[1][..., None] * parallax[:, None]
    tilt = (move[4] * 0.5).clamp(-0.25, 0.25) + dice.uniform(-0.15, 0.15, clips, 1)
    lean = dice.uniform(0, 6.3, clips, 1)
    out[..., 2, 0], out[..., 2, 1] = (tilt * lean.cos())[..., None], (tilt * lean.sin())[..., None]
    out[..., 2, 2] = 1
    return out


def _objects(dice: Dice, config: ClipConfig, time: Tensor, speed: Tensor, count: int) -> Tensor:
    """(B, T, K, 3, 3): where the objects are in the background's plane. Some hang at a joint of the one before."""
    clips = len(speed)
    move = path(config.split, dice, time, 6, clips, count) * speed[:, None, None]
    busy = dice.log_uniform(0.3, 1.5, clips, count, 1)
    size = dice.log_uniform(0.2, 0.85, clips, count)
    aspect = dice.log_uniform(0.3, 1.0, clips, count)
    passing = dice.chance(0.3, clips, count, 1)  # some cross the image and cover what they pass
    course = dice.uniform(0, 6.3, clips, count, 1)
    run = torch.where(passing, dice.uniform(0.8, 2.0, clips, count, 1) * speed.clamp(0.5, 2)[:, None, None], 0.0)
    stride = run * (time - dice.uniform(0.2, 0.8, clips, count, 1))
    place = dice.uniform(-1.0, 1.0, 2, clips, count, 1) * torch.where(passing, 0.5, 1.0) + move[:2] * 0.3 * busy
    place = place + torch.stack((stride * course.cos(), stride * course.sin()))
    turn = dice.uniform(0, 6.3, clips, count, 1) + move[2] * 0.45 * busy
    grow = (move[3] * 0.2 * busy).clamp(-0.8, 0.8).exp()
    tilt = (move[4:] * 0.3 + dice.uniform(-0.2, 0.2, 2, clips, count, 1)).clamp(-0.45, 0.45)
    hung = dice.chance(0.35, clips, count)
    hung[:, 0] = False
    swing = dice.uniform(-1, 1, clips, count, 1) + move[2] * 0.8
    out: list[Tensor] = []
    for k in range(count):  # a child follows its parent, so one after the other
        a, b = size[:, k, None] * grow[:, k], size[:, k, None] * aspect[:, k, None] * grow[:, k]
        free = _matrix(turn[:, k], a, b, place[0, :, k], place[1, :, k])
        free[..., 2, 0], free[..., 2, 1] = tilt[0, :, k], tilt[1, :, k]
        if k:
            ratio = (size[:, k] / size[:, k - 1]).clamp(0.5, 1.0)[:, None].expand_as(a)
            arm = torch.full_like(a, 0.7)
            # hinge at (0.6, 0) of the parent, the child's own (-0.7, 0) lies on it
            reach = arm * ratio
            joint = _matrix(swing[:, k], ratio, ratio, 0.6 + reach * swing[:, k].cos(), reach * swing[:, k].sin())
            free = torch.where(hung[:, k, None, None, None], out[-1] @ joint, free)
        out.append(free)
    return torch.stack(out, 2)


def _matrix(turn: Tensor, a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    rows = (a * turn.cos(), -b * turn.sin(), x, a * turn.sin(), b * turn.cos(), y)
    zero = torch.zeros_like(turn)
    return torch.stack((*rows, zero, zero, zero + 1), -1).unflatten(-1, (3, 3))


def _bending(dice: Dice, time: Tensor, speed: Tensor, count: int) -> Tensor:
    """(F, K, J, 5) waves that run through half of the objects; slopes add up to less than 0.5: invertible."""
    clips = len(speed)
    soft = dice.chance(0.5, clips, count, 1)
    soft[:, 0] = dice.chance(0.3, clips, 1)
    k = dice.uniform(1.0, 4.5, clips, count, WAVES) * torch.where(dice.chance(0.5, clips, count, WAVES), 1.0, -1.0)
    angle = dice.uniform(0, 6.3, 2, clips, count, WAVES)
    slope = dice.uniform(0.05, 0.24, clips, count, WAVES) * soft
    size = slope / k.abs()
    rate = dice.normal(clips, count, WAVES) * 3.0 * speed[:, None, None]
    phase = dice.uniform(0, 6.3, clips, count, WAVES)[:, None] + rate[:, None] * time[:, None, None]
    fixed = (size * angle[0].cos(), size * angle[0].sin(), k * angle[1].cos(), k * angle[1].sin())
    waves = torch.stack([*(v[:, None].expand_as(phase) for v in fixed), phase], -1)
    return waves.flatten(0, 1)
