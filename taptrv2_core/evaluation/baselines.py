"""Methods to beat: standing still, and OpenCV's pyramidal Lucas-Kanade."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation.tracking import Bools, Floats, Ints, TrackResult, Video, blank_result

Grey = NDArray[np.uint8]


class NeverMoves:
    """Every point stays where its query was, and is always called visible."""

    name = "never moves"

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        """See ``PointTracker.track``."""
        result = blank_result(len(video), query_xy)
        result.visible[:] = np.arange(len(video))[:, None] >= query_frame[None]
        return result


class LucasKanade:
    """OpenCV's pyramidal LK from frame to frame, grey frames at full resolution.

    A point is visible as long as tracking forward and back again returns to within ``max_return`` pixels of the start,
    inside the image. Once that fails it is called hidden for good: what LK follows from there on is as a rule the
    occluder, which passes the check. (Calling it visible again when it passes lowers AJ and raises OA.) Its position is
    still LK's, or the last one where LK reports none.
    """

    name = "OpenCV LK"

    def __init__(
        self, window: int = 21, levels: int = 3, max_return: float = 1.0, min_eigenvalue: float = 1e-4
    ) -> None:
        """``window``: side of the window in pixels; ``levels``: halvings of the pyramid; all but ``max_return`` are
        OpenCV's defaults. ``min_eigenvalue``: of the window's gradients, less is too little texture."""
        self.window = (window, window)
        self.levels = levels
        self.max_return = max_return
        self.min_eigenvalue = min_eigenvalue

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        """See ``PointTracker.track``."""
        result = blank_result(len(video), query_xy)
        previous = grey_image(video[0])
        lost = np.zeros(len(query_frame), dtype=np.bool_)
        for t, frame in enumerate(video):
            current = grey_image(frame)
            active = np.flatnonzero(query_frame < t)
            if active.size:
                xy, ok = self.follow(previous, current, result.xy[t - 1, active])
                lost[active] |= ~ok
                result.xy[t, active], result.visible[t, active] = xy, ~lost[active]
            result.visible[t, query_frame == t] = True
            previous = current
        return result

    def _flow(self, source: Grey, target: Grey, xy: Floats) -> tuple[Floats, Bools]:
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            source,
            target,
            xy.reshape(-1, 1, 2),
            np.empty((len(xy), 1, 2), np.float32),
            winSize=self.window,
            maxLevel=self.levels,
            minEigThreshold=self.min_eigenvalue,
        )
        return np.asarray(moved, dtype=np.float32).reshape(-1, 2), np.asarray(status).reshape(-1) > 0

    def follow(self, previous: Grey, current: Grey, xy: Floats) -> tuple[Floats, Bools]:
        """One frame on: (N, 2) positions in the current frame, and whether the forward-backward check passed (N,)."""
        moved, found = self._flow(previous, current, xy)
        returned, found_back = self._flow(current, previous, moved)
        moved = np.where(found[:, None], moved, xy)
        height, width = current.shape
        inside = np.all((moved >= -0.5) & (moved <= np.array([width - 0.5, height - 0.5])), axis=-1)
        back = np.sqrt(np.square(returned - xy).sum(-1)) < self.max_return
        return moved.astype(np.float32), found & found_back & back & inside


def grey_image(frame: Video) -> Grey:
    """(H, W, 3) RGB -> (H, W), both uint8."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
