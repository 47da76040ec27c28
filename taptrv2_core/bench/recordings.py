"""Whole runs of ``taptr track`` beside the tracker alone: what reading, drawing and writing cost."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import torch

from taptrv2_core.bench.contenders import network
from taptrv2_core.bench.frames import moving_texture, points
from taptrv2_core.bench.jobs import in_own_process, set_up
from taptrv2_core.encodings import RgbImage
from taptrv2_core.query_files import Query
from taptrv2_core.recordings import open_recording
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracking_run.run import Run, TrackOptions, check_packages

ALONE = "tracker alone, images decoded beforehand"
_RUNS: dict[str, dict[str, Any]] = {
    "taptr track --no-overlay": {"overlay": False},
    "taptr track": {},
    "taptr track --streaming": {"streaming": True},
}
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class RecordingJob:
    """What to time.

    Attributes:
        recording: bag, video or folder of images.
        images: at most so many of it.
        points: that are followed.
        weights, device, dtype, threads, input_size: of the network.
    """

    recording: Path
    topic: str | None
    images: int
    points: int
    weights: str
    device: str
    dtype: str
    threads: int
    input_size: tuple[int, int] | None = None


def generated_recording(folder: Path, size: tuple[int, int], images: int) -> Path:
    """A folder of JPEG files of the benchmark's moving texture; ``size`` is (height, width)."""
    for index, image in enumerate(itertools.islice(moving_texture(size), images)):
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return folder


def time_recording(job: RecordingJob, repeats: int, tell: Callable[[str], object]) -> list[dict[str, Any]]:
    """Rows of name, images a second of each run, their median, and the share by which it is below the tracker alone.

    The runs take turns, each in a process of its own, so that what else the machine does meets all of them alike.

    Raises RecordingError, MissingPackageError, OSError.
    """
    check_packages(TrackOptions(job.recording))
    rates: dict[str, list[float]] = {name: [] for name in (ALONE, *_RUNS)}
    for turn in range(repeats):
        for name, found in rates.items():
            tell(f"{name}, run {turn + 1} of {repeats}")
            found.append(in_own_process(_rate, job, _RUNS.get(name)))
    own = median(rates[ALONE])
    return [
        {"name": name, "images/s": median(found), "runs": found, "below": 1 - median(found) / own}
        for name, found in rates.items()
    ]


def _rate(job: RecordingJob, changes: dict[str, Any] | None) -> float:
    """Images a second from the first image to the last file; without ``changes`` of the tracker alone."""
    set_up(job.threads)
    cv2.setNumThreads(1)  # as the command does
    model = partial(network, job.weights, torch.device(job.device), job.dtype, job.input_size)
    with open_recording(job.recording, job.topic) as recording:
        frames = itertools.islice(recording.frames, job.images)
        first = next(frames).rgb()
        xy = points(job.points, (first.shape[0], first.shape[1])).tolist()
        if changes is None:
            return _tracker_rate(Tracker(model(), job.points), xy, [first, *(frame.rgb() for frame in frames)])
    with tempfile.TemporaryDirectory(prefix="taptr_bench_") as folder:
        clicks = tuple(Query(x, y) for x, y in xy)
        options = TrackOptions(job.recording, Path(folder), job.topic, job.images, clicks=clicks)
        outcome = Run(replace(options, **changes), lambda _: None, lambda: False)(
            model, lambda _: nullcontext(lambda _: None)
        )
    if outcome.stopped:
        raise OSError(outcome.stopped)
    return outcome.images / outcome.seconds


def _tracker_rate(tracker: Tracker, xy: list[list[float]], images: list[RgbImage]) -> float:
    begin = time.perf_counter()
    tracker.step(images[0])
    tracker.add_points(xy)
    for image in images[1:]:
        tracker.step(image)
    return len(images) / (time.perf_counter() - begin)
