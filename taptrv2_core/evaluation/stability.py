"""How steady tracks are: jitter of points that do not move, flicker of the visibility flag, time until a loss.

Arrays as everywhere in the evaluation: xy (T, N, 2) in pixels, visible (T, N), query_frame (N,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation.metrics import SURVIVAL_DISTANCE, position_errors
from taptrv2_core.evaluation.tracking import Bools, Floats, Ints

STATIC_DISTANCE = 0.5
"""A point that stays this near to where it was first, in pixels, is taken for one that does not move."""
SHORT_RUN = 2
"""A visibility that lasts this many frames or fewer between two changes is flicker."""


@dataclass(frozen=True)
class Jitter:
    """Of points that do not move, in the frames that call them visible; NaN where there are none. Pixels."""

    points: int
    """How many there are."""
    step: float
    """Root mean square of the distance from one frame to the next."""
    spread: float
    """Root mean square of the distance from a point's own mean position: what ``step`` misses is slow drift."""


@dataclass(frozen=True)
class Flicker:
    """How often the visibility flag changes its mind."""

    changes: float
    """Changes a point in 100 frames; NaN where nothing was tracked."""
    short_runs: int
    """Stretches of at most ``SHORT_RUN`` frames, visible or hidden, between two changes; over all points."""


def tracked_frames(frames: int, query_frame: Ints, end: Ints | None = None) -> Bools:
    """(T, N): the frames from each point's query on, those from ``end`` (N,) on left out."""
    time = np.arange(frames)[:, None]
    return np.greater_equal(time, query_frame[None]) & (end is None or np.less(time, end))


def static_points(xy: Floats, known: Bools, query_frame: Ints) -> Bools:
    """(N,): points whose positions (true ones, or another method's), where known, all lie near the query's.

    Points known nowhere after their query are left out.
    """
    after = known & np.greater(np.arange(len(xy))[:, None], query_frame[None])
    start = np.take_along_axis(xy, query_frame[None, :, None], axis=0)
    moved = np.where(after, np.linalg.norm(xy - start, axis=-1), 0.0)
    return np.asarray(after.any(0) & (moved.max(0, initial=0.0) < STATIC_DISTANCE), dtype=np.bool_)


def jitter(xy: Floats, visible: Bools, query_frame: Ints, static: Bools) -> Jitter:
    """Jitter of the points that ``static`` (N,) says do not move; the query's own frame does not count."""
    counted = visible & np.greater(np.arange(len(xy))[:, None], query_frame[None]) & static[None]
    steps, spreads = [], []
    for i in np.flatnonzero(counted.any(0)):
        track = xy[counted[:, i], i].astype(np.float64)
        both = counted[1:, i] & counted[:-1, i]
        steps.append(np.square(np.diff(xy[:, i].astype(np.float64), axis=0)[both]).sum(-1))
        spreads.append(np.square(track - track.mean(0)).sum(-1))
    return Jitter(len(spreads), _root_mean(steps), _root_mean(spreads))


def flicker(visible: Bools, query_frame: Ints, end: Ints | None = None) -> Flicker:
    """Flicker of the visibility flag after each point's query, and before its ``end``."""
    tracked = tracked_frames(len(visible), query_frame, end)
    both = tracked[1:] & tracked[:-1]
    change = (visible[1:] != visible[:-1]) & both
    steps = int(both.sum())
    short = 0
    for i in range(visible.shape[1]):
        between = np.diff(np.flatnonzero(change[:, i]))
        short += int((between <= SHORT_RUN).sum())
    return Flicker(100.0 * float(change.sum()) / steps if steps else float("nan"), short)


def lost_frames(xy: Floats, true_xy: Floats, seen: Bools, query_frame: Ints, frame_size: tuple[int, int]) -> Ints:
    """(N,): the first frame after the query in which a truly visible point is lost, -1 if it never is.

    Lost means farther off than ``SURVIVAL_DISTANCE`` pixels at 256 x 256, as for the metric ``survival``.

    Args:
        xy, true_xy: (T, N, 2) pixels.
        seen: (T, N) truly visible, and annotated.
        query_frame: (N,).
        frame_size: (height, width).
    """
    error = position_errors(xy, true_xy, frame_size)
    after = np.greater(np.arange(len(xy))[:, None], query_frame[None])
    return first_frames(after & seen & (error > SURVIVAL_DISTANCE))


def hidden_frames(visible: Bools, query_frame: Ints, end: Ints | None = None) -> Ints:
    """(N,): the first frame after the query, and before ``end``, in which a point is called hidden, -1 if none."""
    return first_frames(~visible & tracked_frames(len(visible), query_frame, end))


def first_frames(event: Bools) -> Ints:
    """(N,): the first frame of (T, N) in which an event is true, -1 if none."""
    return np.where(event.any(0), event.argmax(0), -1).astype(np.int64)


def durations(first: Ints, query_frame: Ints, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) seconds from each query to frame ``first`` of that point, infinite where that is -1; seconds (T,)."""
    passed = seconds[np.maximum(first, 0)] - seconds[query_frame]
    return np.where(first >= 0, passed, np.inf)


def _root_mean(squares: list[NDArray[np.float64]]) -> float:
    pooled = np.concatenate(squares) if squares else np.zeros(0)
    return float(np.sqrt(pooled.mean())) if pooled.size else float("nan")
