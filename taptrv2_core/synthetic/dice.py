"""Random numbers for scenes, and smooth random paths."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Dice:
    """Seeded draws as float64 CPU tensors: a scene's parameters are few, and alike on every device."""

    def __init__(self, *key: int) -> None:
        seed = 0x9E3779B97F4A7C15
        for part in key:  # splitmix64, so that neighbouring keys give unrelated streams
            seed = (seed ^ part) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
            seed = (seed ^ seed >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
            seed ^= seed >> 31
        self.seed = seed >> 1
        self.generator = torch.Generator().manual_seed(self.seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in the logarithm."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def chance(self, share: float, *shape: int) -> Tensor:
        """True with probability `share`."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float64) < share

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers in [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """One integer in [low, high)."""
        return int(self.integers(low, high, 1))

    def number(self, low: float, high: float) -> float:
        """One uniform number."""
        return float(self.uniform(low, high, 1))

    def pick(self, items: Sequence[str], weights: Sequence[float] | None = None) -> str:
        """One of the items."""
        w = torch.tensor(weights if weights is not None else [1.0] * len(items), dtype=torch.float64)
        return items[int(torch.multinomial(w, 1, generator=self.generator))]

    def direction(self, *shape: int) -> Tensor:
        """Unit vectors, (*shape, 3)."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)


def wander(dice: Dice, time: Tensor, *shape: int) -> Tensor:
    """Smooth random paths, (*shape, T), at 0 for time 0, of about unit speed: drift and three slow oscillations, so
    that some paths come back to where they were. `time` (T,) is 1 after 24 frames."""
    path = dice.normal(*shape, 1) * 0.6 * time
    for low, high in ((0.3, 0.7), (0.7, 1.5), (1.5, 3.0)):
        turn = 2 * math.pi * dice.uniform(low, high, *shape, 1)
        phase = dice.uniform(0, 2 * math.pi, *shape, 1)
        size = dice.normal(*shape, 1) * 0.7 / turn.sqrt() / 2.0
        path = path + size * (torch.sin(turn * time + phase) - torch.sin(phase))
    return path


def keyed(dice: Dice, time: Tensor, *shape: int) -> Tensor:
    """Other smooth paths, of the held-out clips: rests and smooth moves between random places, (*shape, T), 0 at 0."""
    path = torch.zeros(*shape, len(time), dtype=torch.float64)
    for k in range(4):
        start = dice.uniform(0.28 * k - 0.15, 0.28 * k + 0.15, *shape, 1)
        length = dice.uniform(0.08, 0.4, *shape, 1)
        ease = [((t - start) / length).clamp(0, 1) for t in (time, torch.zeros_like(time))]
        path = path + dice.normal(*shape, 1) * 0.45 * (_smooth(ease[0]) - _smooth(ease[1]))
    return path


def _smooth(x: Tensor) -> Tensor:
    return x * x * x * (x * (6 * x - 15) + 10)


def path(split: str, dice: Dice, time: Tensor, *shape: int) -> Tensor:
    """The split's own motion model."""
    return wander(dice, time, *shape) if split == "train" else keyed(dice, time, *shape)
