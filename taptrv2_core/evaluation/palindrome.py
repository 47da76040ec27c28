"""Forward-backward (palindrome) error: tracked back from where a track arrived, does it return to where it was?

A recording is cut into stretches. At the end of each, the points called visible at both its ends are given to a fresh
tracker that sees the stretch backward; the distance between where it arrives and where they were is the error. No
ground truth is needed. Standing still is also consistent: read it beside ``moved``, how far the points went.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation.metrics import THRESHOLDS
from taptrv2_core.evaluation.tracking import Bools, Floats, Video
from taptrv2_core.model import Taptr
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracks import Tracks


@dataclass(frozen=True)
class ForwardBackward:
    """Errors in pixels of the recording; NaN where no point could be judged."""

    judged: int
    """Points in stretches that were tracked back."""
    not_judged: int
    """Points in stretches that were called hidden at one end."""
    called_hidden: int
    """Of those judged, the ones that the backward tracker calls hidden where it ends."""
    median: float
    """Of the others."""
    within: tuple[float, ...]
    """Share of those judged nearer than 1, 2, 4, 8 and 16 pixels; one that is called hidden is not."""
    moved: float
    """Median distance between both ends of the tracks that were judged."""


class Palindrome:
    """Fed with a stream's images and tracks; holds the images of one stretch at a time."""

    def __init__(self, model: Taptr, stretch: int, takeover_interval: int = 1) -> None:
        """``stretch``: images from one end to the other, at least 1; the other two as for ``Tracker``."""
        if stretch < 1:
            raise ValueError(f"the length of a stretch must be at least 1 image, got {stretch}")
        self._model, self._stretch, self._takeover = model, stretch, takeover_interval
        self._images: list[Video] = []
        self._start: Tracks | None = None
        self._newest: Tracks | None = None
        self.errors: list[NDArray[np.float64]] = []
        """Of each stretch; infinite where the backward tracker called the point hidden."""
        self._moved: list[NDArray[np.float64]] = []
        self._not_judged = 0

    def step(self, image: Video, tracks: Tracks) -> None:
        """The next image (H, W, 3) and the stream's tracks in it, points that were added in it included."""
        self._images.append(image)
        self._newest = tracks
        if self._start is None:
            self._start = tracks
        elif len(self._images) > self._stretch:
            self._judge()
            self._images, self._start = [image], tracks

    def cut(self) -> None:
        """The next image does not continue those before: the stretch that has begun ends here."""
        self.result()
        self._images, self._start = [], None

    def result(self) -> ForwardBackward:
        """Everything so far, the stretch that has begun included."""
        if len(self._images) > 1:
            self._judge()
            self._images, self._start = self._images[-1:], self._newest
        errors = np.concatenate(self.errors) if self.errors else np.zeros(0)
        moved = np.concatenate(self._moved) if self._moved else np.zeros(0)
        seen, nothing = errors[np.isfinite(errors)], float("nan")
        return ForwardBackward(
            errors.size,
            self._not_judged,
            errors.size - seen.size,
            float(np.median(seen)) if seen.size else nothing,
            tuple(float((errors < threshold).mean()) if errors.size else nothing for threshold in THRESHOLDS),
            float(np.median(moved)) if moved.size else nothing,
        )

    def _judge(self) -> None:
        assert self._start is not None and self._newest is not None
        start, begins, ends = _common(self._start, self._newest)
        seen: Bools = self._start.visible[begins] & self._newest.visible[ends]
        self._not_judged += int((~seen).sum())
        begins, ends = begins[seen], ends[seen]
        if not len(begins):
            return
        origin, arrival = start[seen], self._newest.xy[ends]
        back, visible = self._track_back(arrival)
        error = np.linalg.norm(back.astype(np.float64) - origin, axis=-1)
        self.errors.append(np.where(visible, error, np.inf))
        self._moved.append(np.linalg.norm(arrival.astype(np.float64) - origin, axis=-1))

    def _track_back(self, xy: Floats) -> tuple[Floats, Bools]:
        tracker = Tracker(self._model, max_points=len(xy), takeover_interval=self._takeover)
        height, width = self._images[0].shape[:2]
        tracker.step(self._images[-1])
        # A visible point may be reported a little outside; queries have to lie inside.
        tracker.add_points(np.clip(xy, -0.5, (width - 0.5, height - 0.5)))
        for image in self._images[-2::-1]:
            tracks = tracker.step(image)
        return tracks.xy, tracks.visible


def _common(start: Tracks, end: Tracks) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Positions at the start of the points in both, and their rows in each."""
    _, begins, ends = np.intersect1d(start.ids, end.ids, return_indices=True)
    return start.xy[begins], begins.astype(np.int64), ends.astype(np.int64)
