"""Outlines of cut-out objects, as small signed distance fields."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .dice import Dice

COUNT = 64
SIDE = 64


def outlines(split: str, device: torch.device | str) -> Tensor:
    """(COUNT, SIDE, SIDE) float32: positive inside the outline, which lies within [-1, 1]^2. Some have holes."""
    dice = Dice(11 if split == "train" else 12)
    line = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    kinds = (_blob, _rounded, _star, _polygon) if split == "train" else (_limbs, _gear, _moon)
    fields = []
    for i in range(COUNT):
        turn = dice.number(0, 2 * math.pi)
        u, v = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        field = kinds[i % len(kinds)](dice, u, v)
        if dice.number(0, 1) < 0.15:  # a hole, through which things behind appear
            cx, cy = dice.uniform(-0.25, 0.25, 2).tolist()
            hole = ((u - cx) ** 2 + (v - cy) ** 2).sqrt() - dice.number(0.15, 0.35)
            field = torch.minimum(field, hole)
        fields.append(torch.minimum(field, 0.97 - torch.maximum(x.abs(), y.abs())))
    return torch.stack(fields).float().to(device)


def _blob(dice: Dice, u: Tensor, v: Tensor) -> Tensor:
    angle, radius = torch.atan2(v, u), (u * u + v * v).sqrt()
    edge = torch.full_like(u, 0.7)
    for k in range(2, 7):
        edge = edge + dice.number(-0.35, 0.35) / k * torch.cos(k * angle + dice.number(0, 6.28))
    return edge.clamp(0.2, 0.95) - radius


def _rounded(dice: Dice, u: Tensor, v: Tensor) -> Tensor:
    power = dice.number(2.0, 8.0)
    a, b = 0.75, dice.number(0.25, 0.75)
    return 0.5 * (1 - ((u.abs() / a) ** power + (v.abs() / b) ** power) ** (1 / power))


def _star(dice: Dice, u: Tensor, v: Tensor) -> Tensor:
    angle, radius = torch.atan2(v, u), (u * u + v * v).sqrt()
    tips, depth = dice.integer(3, 8), dice.number(0.15, 0.45)
    return 0.9 - depth + depth * torch.asin(torch.cos(tips * angle).clamp(-1, 1)) * (2 / math.pi) - radius


def _polygon(dice: Dice, u: Tensor, v: Tensor) -> Tensor:
    sides = dice.integer(3, 8)
    angles = (torch.arange(sides) + dice.uniform(-0.3, 0.3, sides)) * (2 * math.pi / sides)
    reach = dice.uniform(0.35, 0.65, sides)
    edges = reach[:, None, None] - (u * angles.cos()[:, None, None] + v * angles.sin()[:, None, None])
    return edges.amin(0)


def _limbs(dice: Dice, u: Tensor, v: Tensor) -> Tensor:
    field = 0.3 - (u * u + v * v).sqrt()
    for _ in range(dice.integer(3, 6)):
        angle, width, reach = dice.number(0, 6.28), dice.number(0.08, 0.2), dice.number(0.6, 0.9)
        along = (u * math.cos(angle) + v * math.sin(angle)).clamp(0, reach)
        limb = width - ((u - along * math.cos(angle)) ** 2 + (v - along * math.sin(angle)) ** 2).sqrt()
        field = torch.maximum(field, limb)
    return field


def _gear(dice: Dice, u: Tensor, v: Tensor) -> Tensor:
    angle, radius = torch.atan2(v, u), (u * u + v * v).sqrt()
    teeth = (torch.cos(dice.integer(6, 14) * angle) * 4).clamp(-1, 1)
    return torch.minimum(0.78 + 0.12 * teeth - radius, radius - dice.number(0.0, 0.4))


def _moon(dice: Dice, u: Tensor, v: Tensor) -> Tensor:
    shift, width = dice.number(0.3, 0.7), dice.number(0.5, 0.9)
    return torch.minimum(0.9 - (u * u + v * v).sqrt(), ((u - shift) ** 2 + v * v).sqrt() - width + shift * 0.5)
