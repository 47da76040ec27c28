"""What happened to one camera's images and requests: counted here, told on /diagnostics and when the node ends."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

RECENT = 10.0  # seconds for which a reset or a lack of memory stays in the diagnostics


@dataclass
class Counters:
    """Numbers since the node was configured. Each is changed by one thread only."""

    received: int = 0
    lost: int = 0
    """Images that the middleware lost on the way, where it tells."""
    repeated: int = 0
    """Images with the stamp of the image before; they are left out."""
    dropped: int = 0
    """Images for which the tracker had no time, because a newer one came first."""
    tracked: int = 0
    refused: int = 0
    """Images that could not be converted or tracked."""
    dark: int = 0
    """Images that are nearly black; they are tracked all the same."""
    resets: int = 0
    requests_refused: int = 0
    without_depth: int = 0
    """Tracked images that gave no points in space, where a depth topic is set."""

    def __str__(self) -> str:
        return (
            f"{self.received} images received, {self.tracked} tracked, {self.dropped} dropped, {self.refused} refused, "
            f"{self.repeated} repeated, {self.lost} lost on the way, {self.resets} resets, "
            f"{self.requests_refused} requests refused"
        )

    def since(self, before: Counters) -> Counters:
        """What was added since."""
        return Counters(**{name: value - getattr(before, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Period:
    """What happened between two reports.

    Attributes:
        seconds: how long it was.
        counts: what was added to the counters.
        latency: (n,) seconds from an image's arrival to the publication of its tracks.
        step: (n,) seconds of these in which the image was converted and tracked.
    """

    seconds: float
    counts: Counters
    latency: NDArray[np.float64]
    step: NDArray[np.float64]


@dataclass
class Monitor:
    """Written by the threads that do the work, read by the one that reports."""

    counters: Counters = field(default_factory=Counters)
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=6))
    """time.monotonic() of the newest images since the camera was subscribed to."""
    last_reset: float = -1e9
    last_shortage: float = -1e9
    """time.monotonic() when memory last ran out."""
    reset_reason: str = ""
    problem: str = ""
    """Why an image was refused last."""
    fault: str = ""
    """An error in the node itself that was survived."""
    timings: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reported = time.monotonic()
        self._before = Counters()

    def period(self) -> Period:
        """What happened since the last call."""
        now, counters = time.monotonic(), replace(self.counters)
        timings, self.timings = self.timings, []
        latency, step = np.array(timings, dtype=np.float64).reshape(-1, 2).T
        period = Period(now - self._reported, counters.since(self._before), latency, step)
        self._reported, self._before = now, counters
        return period
