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

    def __init__(self, window: int = 21, levels: int = 3, max_return: float = 1.0) -> None:
        """``window``: side of the window in pixels; ``levels``: halvings of the pyramid; both OpenCV's defaults."""
        self.window = (window, window)
        self.levels = levels
        self.max_return = max_return

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        """See ``PointTracker.track``."""
        result = blank_result(len(video), query_xy)
        previous = _grey(video[0])
        lost = np.zeros(len(query_frame), dtype=np.bool_)
        for t, frame in enumerate(video):
            current = _grey(frame)
            active = np.flatnonzero(query_frame < t)
            if active.size:
                xy, ok = self._follow(previous, current, result.xy[t - 1, active], frame.shape[:2])
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
        )
        return np.asarray(moved, dtype=np.float32).reshape(-1, 2), np.asarray(status).reshape(-1) > 0

    def _follow(self, previous: Grey, current: Grey, xy: Floats, size: tuple[int, ...]) -> tuple[Floats, Bools]:
        """Positions in the current frame, and whether the forward-backward check passed."""
        moved, found = self._flow(previous, current, xy)
        returned, found_back = self._flow(current, previous, moved)
        moved = np.where(found[:, None], moved, xy)
        inside = np.all((moved >= -0.5) & (moved <= np.array([size[1] - 0.5, size[0] - 0.5])), axis=-1)
        back = np.sqrt(np.square(returned - xy).sum(-1)) < self.max_return
        return moved.astype(np.float32), found & found_back & back & inside


def _grey(frame: Video) -> Grey:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
