"""Procedural textures: what surfaces look like. Each is a function of a seed; either split has families of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .dice import Dice


class Painter:
    """Draws one texture, (3, S, S) in [0, 1], on a device."""

    def __init__(self, dice: Dice, size: int, device: torch.device | str) -> None:
        self.dice, self.size, self.device = dice, size, device
        self.noise_source = torch.Generator(device).manual_seed(dice.seed)

    def noise(self, cells: float, channels: int = 1, octaves: int = 1, decay: float = 0.5) -> Tensor:
        """Smooth noise of about unit variance, (channels, S, S): `cells` across at the coarsest octave."""
        total = torch.zeros(channels, self.size, self.size, device=self.device)
        weight, norm = 1.0, 0.0
        for octave in range(octaves):
            n = int(min(max(cells * 2**octave, 1), self.size)) + 3
            grid = torch.randn(1, channels, n, n, generator=self.noise_source, device=self.device)
            total += weight * interpolate(grid, (self.size, self.size), mode="bicubic", align_corners=False)[0]
            norm += weight**2
            weight *= decay
            if n > self.size:
                break
        return total * (1.4 / math.sqrt(norm))

    def grid(self) -> tuple[Tensor, Tensor]:
        """x and y in [0, 1), (S, S), turned by a random angle about the middle."""
        line = (torch.arange(self.size, device=self.device) + 0.5) / self.size - 0.5
        y, x = torch.meshgrid(line, line, indexing="ij")
        turn = self.dice.number(0, 2 * math.pi)
        return x * math.cos(turn) - y * math.sin(turn) + 0.5, x * math.sin(turn) + y * math.cos(turn) + 0.5

    def colour(self) -> Tensor:
        """A colour, (3, 1, 1): of any lightness, seldom strongly saturated."""
        grey = self.dice.uniform(0.08, 0.92, 1)
        tint = self.dice.normal(3) * float(self.dice.pick(("0.03", "0.1", "0.25"), (5, 4, 1)))
        return (grey + tint - tint.mean()).clamp(0.02, 0.98).float().to(self.device)[:, None, None]

    def palette(self, count: int) -> Tensor:
        """Colours that belong together, (count, 3)."""
        base = self.colour()[None, :, 0, 0]
        hue = float(self.dice.log_uniform(0.02, 0.2, 1))
        spread = self.dice.normal(count, 1) * 0.25 + self.dice.normal(count, 3) * hue
        return (base + spread.float().to(self.device)).clamp(0.02, 0.98)

    def blend(self, mask: Tensor) -> Tensor:
        """Two colours mixed by a mask in [0, 1]."""
        a, b = self.colour(), self.colour()
        for _ in range(4):
            if float((a - b).abs().sum()) > 0.6:
                break
            b = self.colour()
        return a + (b - a) * mask.clamp(0, 1)


def fractal(p: Painter) -> Tensor:
    """Noise of several octaves, coloured."""
    cells, decay = float(p.dice.log_uniform(3, 40, 1)), p.dice.number(0.5, 0.95)
    value = p.noise(cells, 1, 8, decay) * p.dice.number(0.12, 0.3)
    tint = p.noise(cells, 3, 6, decay) * p.dice.number(0.01, 0.06)
    return p.colour() * 0.5 + 0.25 + value + tint


def marble(p: Painter) -> Tensor:
    """Bands bent by noise: wood, marble, cloth folds."""
    x, _ = p.grid()
    bent = x + p.noise(4, 1, 4, 0.5)[0] * p.dice.number(0.01, 0.08)
    wave = torch.sin(bent * 2 * math.pi * float(p.dice.log_uniform(3, 25, 1)) + p.noise(8, 1, 3, 0.6)[0])
    return p.blend((0.5 + 0.5 * wave)[None]) + p.noise(60, 1, 2, 0.7) * p.dice.number(0.0, 0.08)


def leaves(p: Painter) -> Tensor:
    """Dead leaves: discs and rectangles of all sizes covering one another, as surfaces do in photographs."""
    size = p.size
    image = p.colour().expand(3, size, size).clone()
    count = p.dice.integer(150, 500)
    # sizes follow 1 / r^3 between two bounds: the statistics of natural images
    low, high = p.dice.number(0.01, 0.025), p.dice.number(0.12, 0.3)
    u = p.dice.uniform(0, 1, count)
    radius = ((low**-2 + u * (high**-2 - low**-2)) ** -0.5).sort(descending=True).values
    image = _cover(p, image, radius[torch.randperm(count, generator=p.dice.generator)])
    return image + p.noise(80, 1, 2, 0.8) * p.dice.number(0.0, 0.06)


def _cover(p: Painter, image: Tensor, radius: Tensor) -> Tensor:
    size, count = p.size, len(radius)
    centre = p.dice.uniform(-0.05, 1.05, count, 2)
    turn, aspect = p.dice.uniform(0, math.pi, count), p.dice.uniform(0.5, 1.0, count)
    square, slope = p.dice.chance(0.4, count), p.dice.normal(count) * 0.4
    colours = p.palette(count)
    line = (torch.arange(size, device=p.device) + 0.5) / size
    table = torch.stack((radius, centre[:, 0], centre[:, 1], turn, aspect, square.double(), slope), 1).tolist()
    for (r, cx, cy, a, k, box, shade), colour in zip(table, colours, strict=True):
        x0, x1 = max(int((cx - r * 1.4) * size), 0), min(int((cx + r * 1.4) * size) + 2, size)
        y0, y1 = max(int((cy - r * 1.4) * size), 0), min(int((cy + r * 1.4) * size) + 2, size)
        if x1 <= x0 or y1 <= y0:
            continue
        dx, dy = (line[x0:x1] - cx)[None], (line[y0:y1] - cy)[:, None]
        u, v = (dx * math.cos(a) + dy * math.sin(a)) / r, (dy * math.cos(a) - dx * math.sin(a)) / (r * k)
        inside = torch.maximum(u.abs(), v.abs()) if box else (u * u + v * v).sqrt()
        alpha = ((1 - inside) * r * size * k).clamp(0, 1)
        patch = image[:, y0:y1, x0:x1]
        patch += ((colour[:, None, None] + shade * u * 0.25).clamp(0, 1) - patch) * alpha
    return image


def stripes(p: Painter) -> Tensor:
    """Stripes of unequal width, plain or crossed: textiles, shelves, tiles."""
    out = p.noise(50, 1, 2, 0.7) * 0.03
    x, y = p.grid()
    first = _bars(p, x)
    mask = first if p.dice.number(0, 1) < 0.4 else 0.5 * (first + _bars(p, y))
    return out + p.blend(mask[None]) * (1 + p.noise(5, 1, 2) * 0.12)


def _bars(p: Painter, x: Tensor) -> Tensor:
    count = p.dice.integer(8, 60)
    values = p.dice.uniform(0, 1, count).float().to(p.device)
    at = (x * 0.7 + 0.15).clamp(0, 0.999) * count
    left = at.floor().long().clamp(0, count - 1)
    mix = ((at - at.floor() - 0.5) * (0.35 * p.size / count) + 0.5).clamp(0, 1)
    return values[left] + (values[(left + 1).clamp(max=count - 1)] - values[left]) * mix


def checks(p: Painter) -> Tensor:
    """A grid of squares with colours and dirt of their own."""
    x, y = p.grid()
    n = p.dice.integer(6, 28)
    colours = p.palette(4 if p.dice.number(0, 1) < 0.5 else n * n * 4)
    pick = p.dice.integers(0, len(colours), 2 * n, 2 * n).to(p.device)
    if p.dice.number(0, 1) < 0.3:
        pick = (torch.arange(2 * n)[:, None] + torch.arange(2 * n)).remainder(2).to(p.device)
    i, j = (((v * 0.7 + 0.15) * 2 * n).clamp(0, 2 * n - 1) for v in (x, y))
    image = colours[pick[j.long(), i.long()]].permute(2, 0, 1)
    line = torch.minimum((i - i.round()).abs(), (j - j.round()).abs()) * (p.size / (2 * n))
    image = image + (p.colour() - image) * (1.5 - line).clamp(0, 1) * p.dice.number(0, 1)
    return image * (1 + 0.12 * p.noise(6, 1, 3)) + p.noise(70, 1, 2, 0.8) * 0.03


def glyphs(p: Painter) -> Tensor:
    """Lines of random marks, like print, labels and signs."""
    count = 24
    bits = p.dice.chance(0.5, count, 6, 5).float()
    bits[: count // 2] = torch.maximum(bits[: count // 2], bits[: count // 2].flip(2))
    cell = torch.nn.functional.pad(bits, (1, 1, 1, 2))
    columns = p.dice.integer(8, 30)
    rows = max(int(columns * 0.75), 1)
    page = cell[p.dice.integers(0, count, rows, columns)]
    gap = p.dice.chance(0.16, rows, columns) | (p.dice.chance(0.15, rows, 1) & p.dice.chance(0.8, rows, columns))
    page = page * (~gap)[..., None, None]
    ink = page.permute(0, 2, 1, 3).reshape(1, 1, rows * 9, columns * 7).to(p.device)
    ink = interpolate(ink, (p.size, p.size), mode="bicubic", align_corners=False)[0].clamp(0, 1)
    patch = (p.noise(3, 1, 2) > p.dice.number(-1, 1.5)).float()
    other = p.blend(ink.flip(1))
    return p.blend(ink) * patch + other * (1 - patch) + p.noise(40, 1, 3, 0.8) * 0.03


def faint(p: Painter) -> Tensor:
    """Nearly plain: paint, skin, sky."""
    base = p.colour() + p.noise(2, 3, 2) * p.dice.number(0.01, 0.05)
    return base + p.noise(30, 1, 4, 0.8) * float(p.dice.log_uniform(0.005, 0.04, 1))


def gradients(p: Painter) -> Tensor:
    """Smooth shading with a few soft spots and scratches."""
    x, _ = p.grid()
    out = p.blend(x[None].expand(1, -1, -1)) + p.noise(5, 3, 2, 0.6) * 0.08
    spots = (p.noise(14, 1, 2, 0.6) - p.dice.number(0.8, 1.6)) * 4
    lines = 1 - (p.noise(6, 1, 3, 0.6).abs() * p.dice.number(15, 40)).clamp(0, 1)
    return out + spots.clamp(0, 1) * (p.colour() - out) + lines * p.dice.number(-0.3, 0.3)


def stains(p: Painter) -> Tensor:
    """Noise cut at levels into flat regions with sharp edges: camouflage, maps, rust."""
    levels = p.dice.integer(3, 7)
    value = p.noise(float(p.dice.log_uniform(4, 16, 1)), 1, 5, p.dice.number(0.4, 0.7))[0]
    colours = p.palette(levels)
    steps = torch.linspace(-1.2, 1.2, levels - 1, device=p.device)
    image = colours[0][:, None, None].expand(3, p.size, p.size)
    for i in range(levels - 1):
        mask = ((value - steps[i]) * p.size / 12).clamp(0, 1)
        image = image + (colours[i + 1][:, None, None] - image) * mask
    return image + p.noise(60, 1, 3, 0.8) * p.dice.number(0.01, 0.06)


def cells(p: Painter) -> Tensor:
    """Stones and crazed glaze: cells about random sites (held-out)."""
    n = p.dice.integer(6, 22)
    sites = torch.rand(n, n, 2, generator=p.noise_source, device=p.device)
    x, y = p.grid()
    x, y = (x * 0.7 + 0.15) * n, (y * 0.7 + 0.15) * n
    first = torch.full_like(x, 9.0)
    second, owner = first.clone(), torch.zeros_like(x, dtype=torch.long)
    for dj in (-1, 0, 1):
        for di in (-1, 0, 1):
            i, j = (x.long() + di).clamp(0, n - 1), (y.long() + dj).clamp(0, n - 1)
            far = ((i + sites[j, i, 0] - x) ** 2 + (j + sites[j, i, 1] - y) ** 2).sqrt()
            owner = torch.where(far < first, j * n + i, owner)
            second = torch.where(far < first, first, torch.where(far > first, torch.minimum(second, far), second))
            first = torch.minimum(first, far)
    image = p.palette(n * n)[owner].permute(2, 0, 1)
    edge = ((second - first) * p.size / n / 4).clamp(0, 1)
    return image * (0.3 + 0.7 * edge) + p.noise(50, 1, 3, 0.8) * p.dice.number(0.02, 0.08)


def bricks(p: Painter) -> Tensor:
    """Rows of bricks with joints (held-out)."""
    x, y = p.grid()
    rows = p.dice.integer(8, 30)
    v = (y * 0.7 + 0.15) * rows
    u = (x * 0.7 + 0.15) * rows * p.dice.number(0.35, 0.6) + v.floor() * 0.5
    tone = torch.randn(64, 64, generator=p.noise_source, device=p.device)[v.long() % 64, u.long() % 64]
    gap = torch.minimum(
        torch.minimum(u - u.floor(), u.floor() + 1 - u) * 2, torch.minimum(v - v.floor(), v.floor() + 1 - v)
    )
    wall = p.colour() * (1 + 0.25 * tone) + p.noise(30, 3, 4, 0.8) * 0.05
    return wall + (p.colour() - wall) * (1.5 - gap * p.size / rows / 2).clamp(0, 1)


def ripples(p: Painter) -> Tensor:
    """Interfering rings (held-out)."""
    total = torch.zeros(p.size, p.size, device=p.device)
    x, y = p.grid()
    for _ in range(5):
        cx, cy = p.dice.uniform(-0.3, 1.3, 2).tolist()
        total += torch.sin(((x - cx) ** 2 + (y - cy) ** 2).sqrt() * 2 * math.pi * float(p.dice.log_uniform(4, 30, 1)))
    return p.blend((total / 4 + 0.5)[None]) + p.noise(6, 3, 3) * 0.06


def scribbles(p: Painter) -> Tensor:
    """Contour lines of noise: handwriting, cables, branches (held-out)."""
    image = p.colour() + p.noise(5, 3, 3) * 0.06
    for _ in range(4):
        value = p.noise(float(p.dice.log_uniform(4, 20, 1)), 1, 2, 0.4)
        line = (1 - (value - p.dice.number(-1, 1)).abs() * p.dice.number(6, 20)).clamp(0, 1)
        image = image + (p.colour() - image) * (line * 2).clamp(0, 1)
    return image + p.noise(60, 1, 2, 0.8) * 0.03


def rough(p: Painter) -> Tensor:
    """Noise of another spectrum: gravel, grass, fur (held-out)."""
    x, _ = p.grid()
    grain = p.noise(float(p.dice.log_uniform(60, 160, 1)), 1, 2, 0.9) * p.noise(5, 1, 2).abs()
    streak = torch.sin((x + p.noise(30, 1, 2)[0] * 0.02) * 300) * p.noise(12, 1, 2)[0]
    return p.colour() * 0.6 + 0.2 + 0.15 * grain + 0.05 * streak + p.noise(12, 3, 3) * 0.06


def plain(p: Painter) -> Tensor:
    """Plaster: nearly plain, with a soft light and a few specks (held-out)."""
    x, y = p.grid()
    glow = torch.exp(-((x - p.dice.number(0, 1)) ** 2 + (y - p.dice.number(0, 1)) ** 2) * p.dice.number(2, 8))
    specks = (p.noise(float(p.dice.log_uniform(40, 120, 1)), 1, 1) - 2.2).clamp(0, 1)
    return p.colour() * (0.8 + 0.3 * glow) - specks * p.dice.number(0.1, 0.5)


Family = Callable[[Painter], Tensor]
TRAIN: dict[str, tuple[Family, float]] = {
    "fractal": (fractal, 3), "marble": (marble, 1.5), "leaves": (leaves, 4), "stripes": (stripes, 1),
    "checks": (checks, 1.5), "glyphs": (glyphs, 2), "faint": (faint, 1.5), "gradients": (gradients, 1.5),
    "stains": (stains, 2),
}  # fmt: skip
HELDOUT: dict[str, tuple[Family, float]] = {
    "cells": (cells, 2), "bricks": (bricks, 1.5), "ripples": (ripples, 1), "scribbles": (scribbles, 1.5),
    "rough": (rough, 2), "plain": (plain, 1),
}  # fmt: skip


def paint(split: str, dice: Dice, size: int, device: torch.device | str) -> Tensor:
    """A texture of the split, (3, S, S) in [0, 1]."""
    families = TRAIN if split == "train" else HELDOUT
    name = dice.pick(list(families), [weight for _, weight in families.values()])
    image = families[name][0](Painter(dice, size, device))
    middle = image.mean((1, 2), keepdim=True)
    return (middle + (image - middle) * dice.number(0.6, 1.2)).clamp(0.0, 1.0).expand(3, size, size)
