"""Runs methods over samples and gathers their metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taptrv2_core.evaluation.breakdown import Tally, breakdown, merge
from taptrv2_core.evaluation.metrics import Metrics, average, tapvid_metrics
from taptrv2_core.evaluation.samples import Sample
from taptrv2_core.evaluation.tracking import Floats, Ints, PointTracker, TrackResult, Video, track_both_ways

Progress = Callable[[str, str], None]
"""Called with the sample's and the method's name after each run."""


@dataclass
class MethodResults:
    """What one method reached, video by video."""

    name: str
    videos: list[tuple[str, Metrics]] = field(default_factory=list)
    groups: dict[str, Tally] = field(default_factory=dict)
    seconds: float = 0.0
    frames: int = 0
    """Frames tracked, twice a video's where it was tracked both ways."""

    @property
    def mean(self) -> Metrics:
        """Mean over the videos."""
        return average([metrics for _, metrics in self.videos])

    @property
    def frames_per_second(self) -> float:
        """Over all videos, the method's own time alone."""
        return self.frames / self.seconds if self.seconds else float("nan")


def _track_forward(tracker: PointTracker, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
    return tracker.track(video, query_frame, query_xy)


def score(result: TrackResult, sample: Sample) -> Metrics:
    """TAP-Vid's metrics of one method on one sample."""
    return tapvid_metrics(
        result, sample.gt_xy, sample.gt_visible, sample.query_frame, sample.frame_size, sample.query_mode, sample.scored
    )


def evaluate(
    trackers: Sequence[PointTracker],
    samples: Iterable[Sample],
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[MethodResults]:
    """Every method on every sample: the same frames, the same queries.

    Args:
        trackers: the methods.
        samples: the videos.
        progress: called after each run.
        stop: asked before each run; where it says so, the results are those of the videos that every method has done,
            or, if there is none yet, of the methods that have done the first: none, if none has.

    Raises:
        ValueError: no samples.
    """
    results = [MethodResults(tracker.name) for tracker in trackers]
    sample = None
    for sample in samples:
        done: list[_Run] = []
        for tracker in trackers:
            if stop():
                break
            done.append(_track(tracker, sample))
            if progress is not None:
                progress(sample.name, tracker.name)
        whole = len(done) == len(trackers)
        if whole or not results[0].videos:
            for into, run in zip(results, done, strict=False):
                _add(into, run, sample)
        if not whole:
            break
    if sample is None:
        raise ValueError("there were no videos to evaluate on")
    return [result for result in results if result.videos]


class _Run(NamedTuple):
    """One method on one sample."""

    tracks: TrackResult
    seconds: float
    frames: int


def _track(tracker: PointTracker, sample: Sample) -> _Run:
    begin = time.perf_counter()
    both_ways = sample.query_mode == "strided"
    run = track_both_ways if both_ways else _track_forward
    tracks = run(tracker, sample.video, sample.query_frame, sample.query_xy)
    return _Run(tracks, time.perf_counter() - begin, len(sample.video) * (2 if both_ways else 1))


def _add(into: MethodResults, run: _Run, sample: Sample) -> None:
    into.seconds += run.seconds
    into.frames += run.frames
    into.videos.append((sample.name, score(run.tracks, sample)))
    merge(into.groups, breakdown(run.tracks, sample))
