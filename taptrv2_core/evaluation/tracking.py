"""What every method of the evaluation is: queries in, positions and visibility out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Video = NDArray[np.uint8]


class TrackResult(NamedTuple):
    """Tracks of one video.

    ``xy`` (T, N, 2) float32, pixels x, y of the video given. ``visible`` (T, N) bool.
    Frames before a point's query hold the query's position and False.
    """

    xy: Floats
    visible: Bools


class PointTracker(Protocol):
    """A method under evaluation."""

    name: str

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        """Follow points from their query frame to the video's end.

        Args:
            video: (T, H, W, 3) uint8 RGB.
            query_frame: (N,) frame in which each point is given.
            query_xy: (N, 2) pixels x, y in that frame; (0, 0) is the centre of the top-left pixel.
        """
        ...


def blank_result(frames: int, query_xy: Floats) -> TrackResult:
    """Every frame at the query's position, nothing visible: what a tracker starts filling in."""
    xy = np.repeat(np.asarray(query_xy, dtype=np.float32)[None], frames, axis=0)
    return TrackResult(xy, np.zeros(xy.shape[:2], dtype=np.bool_))


def track_both_ways(tracker: PointTracker, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
    """Forward from each query and, on the reversed video, backward from it: every frame gets an answer.

    TAP-Vid's strided queries start in mid-video and are evaluated on the frames before them as well.
    """
    frames = len(video)
    forward = tracker.track(video, query_frame, query_xy)
    if not np.any(query_frame > 0):
        return forward
    backward = tracker.track(video[::-1], frames - 1 - query_frame, query_xy)
    before = np.arange(frames)[:, None] < query_frame[None]
    xy = np.where(before[..., None], backward.xy[::-1], forward.xy)
    return TrackResult(xy, np.where(before, backward.visible[::-1], forward.visible))
