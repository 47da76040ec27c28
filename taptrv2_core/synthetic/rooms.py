"""True 3D scenes: a room with boxes, balls and cards, on the floor or a table, seen by a robot's moving camera.

World: metres, x right, y down, z forward; the things stand on the plane y = 0 about the origin.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .atlas import Atlas
from .config import ClipConfig
from .dice import Dice, path
from .scene import BALL, BOX, CARD, ROOM, Scene
from .shadows import sun_view
from .shapes import COUNT
from .skins import dress, set_levels, set_shading

WAVES = 2
SHADOWS = 0.75
"""Share of the batches with cast shadows."""


def build_rooms(dice: Dice, config: ClipConfig, atlas: Atlas, speed: Tensor) -> Scene:
    """Scenes of B clips; `speed` (B,)."""
    clips, frames = len(speed), config.frames
    time = torch.arange(frames, dtype=torch.float64) / 24
    boxes, balls, cards = dice.integer(6, 10), dice.integer(1, 4), dice.integer(3, 6)
    kinds = (ROOM, *(BOX,) * boxes, *(BALL,) * balls, *(CARD,) * cards)
    turn, size, place = _things(dice, config, time, speed, kinds)
    eye, look, focal = _camera(dice, config, time, speed, size[:, 0], place[:, :, 0])
    _foreground(dice, kinds, time, speed, eye, look, size, place, turn)
    eye = _keep_out(eye, size, place)
    lens = torch.stack((focal, focal, torch.ones_like(focal)), -1)[..., None]  # (B, T, 3, 1)
    view = (lens * _look_at(eye, look, dice, time, speed, config)).flatten(0, 1)[:, None]
    axes = turn.flatten(0, 1)
    local = axes * size.repeat_interleave(frames, 0)[:, :, None]
    offset = (place - eye[:, :, None]).flatten(0, 1)
    pose = torch.cat((view @ local, view @ offset[..., None]), -1)
    inverse = torch.linalg.inv(pose[..., :3])
    back = torch.cat((inverse, -inverse @ pose[..., 3:]), -1)
    half = max(config.width, config.height) / 2
    sharp = dice.log_uniform(0.6, 1.6, clips, len(kinds), 1)
    far = torch.linalg.vector_norm(place[:, 0] - eye[:, 0, None], dim=-1)[..., None]
    texels = size * sharp * (half * focal[:, :1, None] / far.clamp(min=1.0))
    texels[:, 0] = (size * sharp * (half * focal[:, :1, None] / 3.0))[:, 0]
    skin = dress(dice, atlas, texels, frames, half)
    set_levels(skin, kinds, back)
    sun = torch.nn.functional.normalize(dice.normal(clips, 3) - torch.tensor([0.0, 3.0, 0.0]), dim=-1)
    share = dice.uniform(0.1, 0.65, clips) * config.photometric
    sun, share = sun.repeat_interleave(frames, 0), share.repeat_interleave(frames)
    light = set_shading(skin, kinds, axes, sun, 1 - share, share)
    shape = dice.integers(0, COUNT, clips, len(kinds))
    shape = torch.where(dice.chance(0.4, clips, len(kinds)), -1, shape).repeat_interleave(frames, 0).double()
    glow, sun_eye = sun_view(sun)
    sun_local, sun_offset = local[:, 1:], place.flatten(0, 1)[:, 1:] - sun_eye[:, None]
    sun_pose = torch.cat((glow[:, None] @ sun_local, glow[:, None] @ sun_offset[..., None]), -1)
    to_sun = torch.cat((glow @ torch.linalg.inv(view[:, 0]), glow @ (eye.flatten(0, 1) - sun_eye)[..., None]), -1)
    if not config.photometric or dice.number(0, 1) > SHADOWS:
        sun_pose = sun_pose[:, :0]
    return Scene(
        kinds=kinds, pose=pose, back=back, order=torch.zeros(pose.shape[:2], dtype=torch.float64),
        bend=_cloth(dice, time, speed, kinds), shape=shape, skin=skin, light=light,
        sun_pose=sun_pose, to_sun=to_sun, ambient=1 - share,
    )  # fmt: skip


def _turn(angle: Tensor, axis: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) about unit axes (..., 3)."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    s, c = angle.sin()[..., None, None], angle.cos()[..., None, None]
    return torch.eye(3, dtype=angle.dtype) + s * cross + (1 - c) * (cross @ cross)


def _things(
    dice: Dice, config: ClipConfig, time: Tensor, speed: Tensor, kinds: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Axes (B, T, K, 3, 3), half sizes (B, K, 3) and centres (B, T, K, 3) of all objects, the room first."""
    clips, count = len(speed), len(kinds)
    kind = torch.tensor(kinds)
    size = dice.log_uniform(0.12, 0.5, clips, count, 1) * dice.log_uniform(0.5, 1.4, clips, count, 3)
    tall = dice.chance(0.25, clips, count)
    size[..., 1] = torch.where(tall, size[..., 1] * 2.2, size[..., 1])
    round_ = dice.chance(0.6, clips, count, 1) & (kind == BALL)[:, None]
    size = torch.where(round_, size.mean(-1, keepdim=True), size)
    size[..., 2] = torch.where(kind == CARD, 0.3 * (size[..., 0] + size[..., 1]), size[..., 2])
    # standing about the middle, one in each sector
    sector = torch.rand(clips, count, generator=dice.generator).argsort(1)
    angle = (sector + dice.uniform(0, 1, clips, count)) * (2 * math.pi / count)
    radius = dice.uniform(0.15, 1.3, clips, count)
    floating = dice.chance(0.3, clips, count)
    lift = torch.where(floating, dice.uniform(0.1, 1.2, clips, count), 0.0)
    place = torch.stack((radius * angle.cos(), -size[..., 1] - lift, radius * angle.sin()), -1)
    moving = dice.chance(0.45, clips, count) & dice.chance(0.6, clips, 1)
    move = path(config.split, dice, time, clips, count, 4) * (moving * speed[:, None])[..., None, None]
    move = move.permute(0, 3, 1, 2)  # (B, T, K, 4)
    shift = move[..., :3] * torch.where(floating, 1.0, 0.0)[:, None, :, None].clamp(min=0) * 0.45
    ground = move[..., :3] * torch.tensor([0.5, 0.0, 0.5])
    centre = place[:, None] + torch.where(floating[:, None, :, None], shift, ground)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(clips, count, 3)
    axis = torch.where(floating[..., None], dice.direction(clips, count), up)
    yaw = dice.uniform(0, 2 * math.pi, clips, count)
    turn = _turn(yaw[:, None] + move[..., 3] * 0.8, axis[:, None].expand(-1, len(time), -1, -1))
    if config.split == "heldout":
        _join(dice, kinds, size, centre, turn)
    _room(dice, size, centre, turn)
    return turn, size, centre


def _join(dice: Dice, kinds: tuple[int, ...], size: Tensor, centre: Tensor, turn: Tensor) -> None:
    """Solids of the held-out clips: every second box is joined to the one before, as crosses, tees and steps, and moves
    with it; balls are long and thin."""
    clips = len(size)
    for k in range(4, kinds.index(BALL), 2):
        size[:, k] = size[:, k - 1] * dice.log_uniform(0.4, 1.6, clips, 3)
        offset = size[:, k - 1] * dice.uniform(-1, 1, clips, 3)
        turn[:, :, k] = turn[:, :, k - 1]
        centre[:, :, k] = centre[:, :, k - 1] + (turn[:, :, k] @ offset[:, None, :, None])[..., 0]
    ball = torch.tensor([kind == BALL for kind in kinds])
    size[:, ball, 0] *= 2.2
    size[:, ball, 2] *= 0.6


def _room(dice: Dice, size: Tensor, centre: Tensor, turn: Tensor) -> None:
    """Put the room into slot 0, in half of the clips a table top and its foot into slots 1 and 2."""
    clips = len(size)
    table = dice.chance(0.5, clips)
    depth = torch.where(table, dice.uniform(0.6, 1.4, clips), 0.0)  # of the floor below y = 0
    high = dice.uniform(2.2, 4.0, clips) + depth
    size[:, 0] = torch.stack((dice.uniform(3.5, 8, clips), high / 2, dice.uniform(3.5, 8, clips)), -1)
    zero = torch.zeros_like(depth)
    centre[:, :, 0] = torch.stack((dice.uniform(-1, 1, clips), depth - high / 2, dice.uniform(-1, 1, clips)), -1)[
        :, None
    ]
    eye = torch.eye(3, dtype=torch.float64)
    turn[:, :, 0] = _turn(dice.uniform(0, 6.3, clips), eye[1].expand(clips, 3))[:, None]
    top = torch.stack((dice.uniform(0.9, 1.6, clips), zero + 0.04, dice.uniform(0.7, 1.6, clips)), -1)
    foot = torch.stack((zero + 0.12, (depth - 0.08).clamp(min=0.1) / 2, zero + 0.12), -1)
    y = (zero + 0.04, 0.08 + foot[:, 1])
    for slot, (extent, below) in enumerate(zip((top, foot), y, strict=True), start=1):
        size[:, slot] = torch.where(table[:, None], extent, size[:, slot])
        put = torch.stack((zero, below, zero), -1)[:, None]
        centre[:, :, slot] = torch.where(table[:, None, None], put, centre[:, :, slot])
        turn[:, :, slot] = torch.where(table[:, None, None, None], eye, turn[:, :, slot])


def _foreground(
    dice: Dice,
    kinds: tuple[int, ...],
    time: Tensor,
    speed: Tensor,
    eye: Tensor,
    look: Tensor,
    size: Tensor,
    place: Tensor,
    turn: Tensor,
) -> None:
    """Put two objects of most clips between the camera and the others, where they hide much; half of them pass by."""
    clips = len(speed)
    for slot in (kinds.index(CARD), kinds.index(BALL) - 1):
        here = dice.chance(0.75, clips)
        ahead = torch.nn.functional.normalize((look - eye)[:, 0], dim=-1)
        side = torch.stack((-ahead[:, 2], torch.zeros_like(speed), ahead[:, 0]), -1)
        away = dice.uniform(0.7, 1.3, clips, 1)
        spot = eye[:, 0] + ahead * away + side * dice.uniform(-0.6, 0.6, clips, 1)
        spot[:, 1] += dice.uniform(-0.2, 0.35, clips)
        passing = dice.chance(0.5, clips) * dice.normal(clips) * 0.9 * speed.clamp(max=2)
        run = passing[:, None] * (time - dice.uniform(0.2, 0.8, clips, 1))
        spot = spot[:, None] + side[:, None] * run[..., None]
        extent = dice.log_uniform(0.06, 0.25, clips, 1) * dice.log_uniform(0.5, 2.0, clips, 3)
        extent[:, 1] *= torch.where(dice.chance(0.5, clips), 2.5, 1.0)
        size[:, slot] = torch.where(here[:, None], extent, size[:, slot])
        place[:, :, slot] = torch.where(here[:, None, None], spot, place[:, :, slot])
        across = _turn(torch.atan2(-side[:, 2], side[:, 0]), torch.eye(3, dtype=torch.float64)[1].expand(clips, 3))
        if kinds[slot] == CARD:  # facing the camera, more or less
            turn[:, :, slot] = torch.where(here[:, None, None, None], across[:, None], turn[:, :, slot])


def _camera(
    dice: Dice, config: ClipConfig, time: Tensor, speed: Tensor, room: Tensor, middle: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Eye (B, T, 3), the place looked at (B, T, 3) and the focal length (B, T) in halves of the image."""
    clips = len(speed)
    move = path(config.split, dice, time, clips, 7) * speed[:, None, None]
    still = dice.chance(0.12, clips)[:, None, None]
    move = torch.where(still, move * 0.05, move)
    angle = dice.uniform(0, 6.3, clips, 1) + move[:, 0] * 0.22
    reach = dice.uniform(1.7, 3.3, clips, 1) * (move[:, 1] * 0.18).clamp(-0.9, 0.7).exp()
    height = (dice.uniform(0.2, 1.5, clips, 1) + move[:, 2] * 0.2).clamp(0.08, 2.0)
    eye = torch.stack((reach * angle.cos(), -height, reach * angle.sin()), -1)
    low, high = (room * -1 + 0.3)[:, None], (room - 0.3)[:, None]
    eye = torch.minimum(torch.maximum(eye - middle[:, :1], low / math.sqrt(2)), high / math.sqrt(2)) + middle[:, :1]
    start = dice.uniform(-0.5, 0.5, clips, 3, 1) - torch.tensor([0.0, 0.3, 0.0])[:, None]
    look = (start + move[:, 3:6] * 0.28).transpose(1, 2)
    focal = (
        dice.log_uniform(1.0, 2.0, clips, 1) * torch.where(dice.chance(0.15, clips)[:, None], move[:, 6] * 0.2, 0).exp()
    )
    return eye, look, focal


def _keep_out(eye: Tensor, size: Tensor, place: Tensor) -> Tensor:
    """Push the eye out of the objects' bounding balls."""
    reach = torch.linalg.vector_norm(size[:, 1:], dim=-1)[:, None] + 0.15  # (B, 1, K)
    for _ in range(4):
        away = eye[:, :, None] - place[:, :, 1:]
        far = torch.linalg.vector_norm(away, dim=-1).clamp(min=1e-6)
        push = away / far[..., None] * (reach - far).clamp(min=0)[..., None]
        eye = eye + push.sum(2)
    return eye


def _look_at(eye: Tensor, look: Tensor, dice: Dice, time: Tensor, speed: Tensor, config: ClipConfig) -> Tensor:
    """World to camera, (B, T, 3, 3), with roll, shake, and in some clips a turn away and back."""
    clips = len(speed)
    ahead = torch.nn.functional.normalize(look - eye, dim=-1)
    down = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand_as(ahead)
    right = torch.nn.functional.normalize(torch.linalg.cross(down, ahead), dim=-1)
    base = torch.stack((right, torch.linalg.cross(ahead, right), ahead), -2)
    middle = dice.uniform(0.25, 0.75, clips, 1) * time[-1]
    width = dice.uniform(0.12, 0.3, clips, 1)
    swing = dice.uniform(-1.4, 1.4, clips, 1) * dice.chance(0.2, clips, 1)
    yaw = swing * torch.exp(-(((time - middle) / width) ** 2))
    shake = path(config.split, dice, time * 4, 3, clips) * (0.012 * dice.uniform(0, 1, clips, 1) * speed[:, None])
    tilt = shake[2] + dice.normal(clips, 1) * 0.08
    unit = torch.eye(3, dtype=torch.float64)
    spin = [_turn(a, unit[i].expand(*a.shape, 3)) for i, a in ((1, yaw + shake[0]), (0, shake[1]), (2, tilt))]
    return spin[2] @ spin[1] @ spin[0] @ base


def _cloth(dice: Dice, time: Tensor, speed: Tensor, kinds: tuple[int, ...]) -> Tensor:
    """(F, K, J, 5): waves across the last card of the clip, a flag or a cloth; still or moving."""
    clips, count = len(speed), len(kinds)
    out = torch.zeros(clips, len(time), count, WAVES, 5, dtype=torch.float64)
    k = dice.uniform(1.5, 5.0, clips, WAVES)
    angle = dice.uniform(0, 6.3, clips, WAVES)
    rate = dice.normal(clips, WAVES) * 4 * speed[:, None] * dice.chance(0.7, clips, 1)
    phase = dice.uniform(0, 6.3, clips, WAVES)[:, None] + rate[:, None] * time[:, None]
    wave = out[:, :, count - 1]
    wave[..., 0] = (dice.uniform(0.05, 0.25, clips, WAVES) / k)[:, None]
    wave[..., 2], wave[..., 3] = (k * angle.cos())[:, None], (k * angle.sin())[:, None]
    wave[..., 4] = phase
    return out.flatten(0, 1)
