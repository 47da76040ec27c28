"""What is tracked in the benchmark: a textured image under a moving camera."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

OCTAVES = (2, 4, 8, 16, 32, 64)
PERIOD = 64
RADIUS = 24


def moving_texture(size: tuple[int, int], seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Endless (height, width, 3) images; a texture of several scales goes round in a circle, 2.4 pixels a frame."""
    height, width = size
    texture = _texture(height + 2 * RADIUS, width + 2 * RADIUS, seed)
    frames = []
    for t in range(PERIOD):
        angle = 2 * math.pi * t / PERIOD
        y, x = (RADIUS + round(RADIUS * f(angle)) for f in (math.sin, math.cos))
        frames.append(np.ascontiguousarray(texture[y : y + height, x : x + width]))
    return itertools.cycle(frames)


def points(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.float64]:
    """(count, 2) x, y well inside the image."""
    height, width = size
    return np.random.default_rng(seed).uniform((0.1 * width, 0.1 * height), (0.9 * width, 0.9 * height), (count, 2))


def _texture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for cell in OCTAVES:
        noise = torch.randn(1, 3, height // cell + 2, width // cell + 2, generator=generator)
        total += torch.nn.functional.interpolate(noise, (height, width), mode="bilinear") * cell**0.5
    grey = ((total - total.mean()) / total.std() * 50 + 128).clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(grey[0].permute(1, 2, 0).numpy())
