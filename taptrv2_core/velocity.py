"""Velocities of tracked points, in pixels a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.tracks import Tracks


class Velocities:
    """Differences between one frame's points and those of the frame before it."""

    def __init__(self) -> None:
        self._before: tuple[float, Tracks] | None = None

    def update(self, tracks: Tracks, seconds: float) -> NDArray[np.float32]:
        """Velocities of the points of the next frame.

        Args:
            tracks: the frame's points.
            seconds: its time.

        Returns:
            (N, 2) x, y in pixels a second, in the order of ``tracks.ids``; 0 for a point in its first frame, of a
            reference's up to the one it is found in, and for all when time has not gone forward.
        """
        before, self._before = self._before, (seconds, tracks)
        velocity = np.zeros((len(tracks.ids), 2), dtype=np.float32)
        if before is None or seconds <= before[0]:
            return velocity
        _, now, then = np.intersect1d(tracks.ids, before[1].ids, assume_unique=True, return_indices=True)
        moved = tracks.xy[now] - before[1].xy[then]
        velocity[now] = np.where(before[1].found[then, None], moved, 0) / np.float32(seconds - before[0])
        return velocity
