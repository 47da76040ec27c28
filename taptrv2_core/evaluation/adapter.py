"""Our tracker as methods of the evaluation: what the stream said at once, and what whole windows made of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from taptrv2_core.evaluation.report import as_dict
from taptrv2_core.evaluation.runner import evaluate
from taptrv2_core.evaluation.samples import Sample
from taptrv2_core.evaluation.tracking import Floats, Ints, TrackResult, Video, blank_result
from taptrv2_core.geometry import PixelMap
from taptrv2_core.images import network_input
from taptrv2_core.model import Taptr
from taptrv2_core.offline import track_video
from taptrv2_core.tracker import Tracker


class StreamingTaptr:
    """``Tracker.step`` frame after frame: each frame's answer is the one given before the next frame was seen.

    A point is added just after its query frame's step, as a live user would.
    """

    name = "taptr streaming"

    def __init__(self, model: Taptr) -> None:
        self.model = model

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        """See ``PointTracker.track``."""
        result = blank_result(len(video), query_xy)
        start = inside_image(query_xy, video)
        tracker = Tracker(self.model, max_points=max(len(query_frame), 1))
        columns: dict[int, int] = {}
        for t, frame in enumerate(video):
            tracks = tracker.step(frame)
            rows = [columns[point] for point in tracks.ids.tolist()]
            result.xy[t, rows], result.visible[t, rows] = tracks.xy, tracks.visible
            new = np.flatnonzero(query_frame == t)
            columns.update(zip(tracker.add_points(start[new]), new.tolist(), strict=True))
            result.visible[t, new] = True
        return result


class RefinedTaptr:
    """``track_video``: the committing windows' last word on each frame, up to seven frames later.

    Args:
        model: the network.
        takeover_interval: of ``track_video``; None is the published rule, max(1, T // 24).
    """

    name = "taptr refined"

    def __init__(self, model: Taptr, takeover_interval: int | None = 1) -> None:
        self.model = model
        self.takeover_interval = takeover_interval

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        """See ``PointTracker.track``."""
        size = (video.shape[1], video.shape[2])
        interval = self.takeover_interval or max(1, len(video) // 24)
        input_size = self.model.config.input_size
        frames = torch.stack([network_input(frame, input_size, torch.device("cpu")) for frame in video])
        resized, own = PixelMap(size, input_size), PixelMap(input_size, input_size)
        start = torch.from_numpy(inside_image(query_xy, video))
        start = own.to_pixels(resized.to_position(start))
        at = torch.from_numpy(query_frame.astype(np.int64))
        tracks = track_video(self.model, frames, at, start, interval, images=video)
        xy = resized.to_pixels(own.to_position(tracks.xy.cpu())).float().numpy()
        result = blank_result(len(video), query_xy)
        time = np.arange(len(video))[:, None]
        result.xy[:] = np.where((time > query_frame)[..., None], xy, result.xy)
        result.visible[:] = (time == query_frame) | ((time > query_frame) & tracks.visible.cpu().numpy())
        return result


def inside_image(query_xy: Floats, video: Video) -> Floats:
    """Queries moved to the image's edge where labels lie a little outside: the tracker refuses points outside."""
    high = (video.shape[2] - 0.5, video.shape[1] - 0.5)
    return np.clip(query_xy, -0.5, high).astype(np.float32)


def evaluate_model(model: Taptr, samples: Iterable[Sample], refined: bool = False) -> dict[str, float]:
    """Metrics of a network alone, for the log of a training.

    Args:
        model: put into eval mode meanwhile.
        samples: the same ones each time, so that figures compare.
        refined: of the refined output (about twice as fast) rather than of the streaming output.

    Returns:
        The names of ``Metrics``, and ``delta_avg/GROUP`` and ``flag_accuracy/GROUP`` for the groups that occur.
    """
    training = model.training
    model.eval()
    try:
        results = evaluate([RefinedTaptr(model) if refined else StreamingTaptr(model)], samples)
    finally:
        model.train(training)
    figures = next(iter(as_dict(results).values()))
    groups = figures.pop("groups")
    for name, shares in groups.items():
        figures |= {f"{key}/{name}": shares[key] for key in ("delta_avg", "flag_accuracy")}
    return {name: float(value) for name, value in figures.items() if value is not None}
