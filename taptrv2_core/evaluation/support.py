"""Support queries: random points that keep the real ones company in query attention and are not scored."""

from __future__ import annotations

import numpy as np

from taptrv2_core.evaluation.tracking import Floats, Ints, PointTracker, TrackResult, Video

SEED = 0


class WithSupport:
    """A method that is given random queries beside the real ones, up to ``total`` in all; only the real ones come back.

    Points of TAPTRv2 attend to each other, and its published evaluation fills up to 800. Support queries lie anywhere
    in the image, with equal chance, in frames in which real queries are given; the same ones on every run.
    """

    def __init__(self, tracker: PointTracker, total: int) -> None:
        if total < 1:
            raise ValueError(f"the number of queries to fill up to must be at least 1, got {total}")
        self.tracker = tracker
        self.name = tracker.name
        self.total = total

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        """See ``PointTracker.track``."""
        real = len(query_frame)
        missing = self.total - real
        if missing <= 0 or not real:
            return self.tracker.track(video, query_frame, query_xy)
        dice = np.random.default_rng(SEED)
        size = np.array([video.shape[2], video.shape[1]])
        support_xy = dice.random((missing, 2)) * size - 0.5
        support_frame = dice.choice(query_frame, missing)
        result = self.tracker.track(
            video,
            np.concatenate((query_frame, support_frame)),
            np.concatenate((query_xy, support_xy.astype(np.float32))),
        )
        return TrackResult(result.xy[:, :real], result.visible[:, :real])
