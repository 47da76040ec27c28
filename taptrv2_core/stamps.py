"""Finding the cuts in a camera's stream: bags that loop, simulators that restart, cameras that stalled."""

from __future__ import annotations

from typing import NamedTuple

NANOSECONDS = 1_000_000_000
MAX_GAP = 1.0
"""Seconds between two images from which on they are a cut, unless something else is said."""


class Continuity(NamedTuple):
    """Which unbroken stretch of the stream an image belongs to; images may be tracked on only within one."""

    epoch: int = 0
    reason: str = ""
    """Why the stretch began; empty for the first."""


class StampWatch:
    """Sees the stamps of all images in the order they arrive, also of those that are dropped: a slow tracker makes no
    gap, a camera that stood still does.

    Args:
        max_gap: seconds between two stamps from which on they are a cut; 0: no gap is.
    """

    def __init__(self, max_gap: float) -> None:
        self.max_gap = max_gap
        self._newest = 0
        self._continuity = Continuity()

    def receive(self, stamp: int) -> Continuity | None:
        """Where an image with that stamp (nanoseconds) belongs; None if it repeats the one before.

        A stamp of 0 says nothing: such images always continue.
        """
        if stamp == 0:
            return self._continuity
        newest, self._newest = self._newest, stamp
        step = stamp - newest
        if newest == 0:
            return self._continuity
        if step == 0:
            return None
        if step < 0:
            self._cut(f"stamps went back by {-step / NANOSECONDS:g} s")
        elif self.max_gap and step > self.max_gap * NANOSECONDS:
            self._cut(f"no image for {step / NANOSECONDS:g} s by their stamps (max_gap is {self.max_gap:g} s)")
        return self._continuity

    def cut(self, reason: str) -> None:
        """Images from now on do not continue those before, whatever their stamps."""
        self._newest = 0
        self._cut(reason)

    def _cut(self, reason: str) -> None:
        self._continuity = Continuity(self._continuity.epoch + 1, reason)
