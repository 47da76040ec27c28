"""Resident memory of a process, round by round, and whether it stays what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MIB = 2**20
FILLING = 1 / 3
"""Share of the rounds, at the beginning, in which caches of kernels and buffers fill; they are not judged."""
FEWEST = 4
"""Rounds that are judged at least: fewer show no trend."""
GROWTH = 0.05
ERRORS = 3.0
"""Memory grows if the line through the judged rounds rises by more than this share of the median from the first to the
last, and by more than so many of its standard errors."""
SPREAD = 0.35
"""So far may the highest peak be above the median, as a share of it."""


@dataclass(frozen=True)
class Round:
    """From the node's configuration to the end of its clean-up, MiB of resident memory.

    Attributes:
        tracking: median while it tracked.
        most: the peak.
        cleaned: after the clean-up.
    """

    tracking: float
    most: float
    cleaned: float


class RoundsOfMemory:
    """Looks at a process."""

    def __init__(self, pid: int) -> None:
        self.rounds: list[Round] = []
        self._file = Path(f"/proc/{pid}/statm")
        self._samples: list[float] = []

    def sample(self) -> None:
        """It tracks: look."""
        self._samples.append(self._resident())

    def end_round(self) -> Round:
        """It has been cleaned up."""
        samples = self._samples or [self._resident()]
        self._samples = []
        self.rounds.append(Round(float(np.median(samples)), max(samples), self._resident()))
        return self.rounds[-1]

    def _resident(self) -> float:
        return int(self._file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB


def judge(rounds: Sequence[Round]) -> str:
    """Whether memory stays what it is once caches are full: what is wrong, or nothing."""
    judged = _judged(rounds)
    if len(judged) < FEWEST:
        return f"{len(rounds)} rounds are too few to judge memory by: run it longer"
    for name, values in _series(judged):
        (grown, error), median = growth(values), float(np.median(values))
        if grown > max(GROWTH * median, ERRORS * error):
            return f"memory {name} grew by {grown:.0f} MiB in {len(judged)} rounds, to {values[-1]:.0f} MiB"
    most, median = max(r.most for r in judged), float(np.median([r.tracking for r in judged]))
    return "" if most <= (1 + SPREAD) * median else f"memory peaked at {most:.0f} MiB, its median is {median:.0f} MiB"


def summary(rounds: Sequence[Round]) -> str:
    """What is judged, in words."""
    judged = _judged(rounds)
    if len(judged) < FEWEST:
        return f"memory: {len(rounds)} rounds"
    lines = [f"memory of the last {len(judged)} of {len(rounds)} rounds, growth by the line through them:"]
    for name, values in _series(judged):
        grown, error = growth(values)
        spread = f"{min(values):.0f} to {max(values):.0f} MiB"
        lines.append(f"  {name}: {spread}, growth {grown:+.1f} MiB (standard error {error:.1f})")
    lines.append(f"  peak: {max(r.most for r in judged):.0f} MiB")
    return "\n".join(lines)


def growth(values: Sequence[float]) -> tuple[float, float]:
    """How much more the last is than the first on the line through all of them (least squares; three or more), and its
    standard error."""
    x = np.linspace(-0.5, 0.5, len(values))
    line = np.polyfit(x, values, 1)
    rest = np.square(values - np.polyval(line, x)).sum() / (len(values) - 2)
    return float(line[0]), float(np.sqrt(rest / np.square(x).sum()))


def _judged(rounds: Sequence[Round]) -> list[Round]:
    return list(rounds[int(np.ceil(FILLING * len(rounds))) :])


def _series(rounds: Sequence[Round]) -> list[tuple[str, list[float]]]:
    return [("while tracking", [r.tracking for r in rounds]), ("after clean-up", [r.cleaned for r in rounds])]
