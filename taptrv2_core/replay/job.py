"""One recording from its file to its folder of results: the same by command, in a worker process, or on a cluster."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taptrv2_core.checkpoint import load_model
from taptrv2_core.errors import QueryError, RecordingError
from taptrv2_core.model import Taptr
from taptrv2_core.query_files import Query, check_queries, grid_queries, read_queries
from taptrv2_core.recordings import Frame, Recording, open_recording
from taptrv2_core.replay.figures import Figures, for_json
from taptrv2_core.replay.measures import Judged, PointFigures, measure, point_figures
from taptrv2_core.replay.report import ReportContent, render_report
from taptrv2_core.replay.run import Replay, Replayer, to_judge
from taptrv2_core.replay.snapshots import draw_tracks, jpeg
from taptrv2_core.replay.truth import Truth, load_truth
from taptrv2_core.seeding import spread_corners

PERCENTILES = (50, 90, 95, 99)
_PICTURES = 4  # in the report

StartProgress = Callable[[str, int], AbstractContextManager[Callable[[], object]]]
"""Called with the recording's name and how many images it has (0: not known); what it gives is called after each."""


@dataclass(frozen=True)
class Job:
    """What is to be evaluated, and how.

    Attributes:
        input: bag, video or folder of images.
        out: folder of results, made if it is not there.
        topic: of the images, where a bag has several.
        queries: file of points; None: those of the truth, or of ``grid``, or corners.
        truth: file of true tracks of the same points in the same order.
        grid: N x N points in the first image, 0 for none.
        corners: so many corners of the first image, if nothing else says which points.
        weights, device, dtype: as for ``load_model``.
        threads: CPU threads; 0: PyTorch's choice. Results may differ in the last digits between numbers of threads.
        takeover_interval: as for ``Tracker``.
        stretch: images of a forward-backward check; 0: none is made.
        images: at most so many.
        timing_in_report: then the report differs from run to run.
    """

    input: Path
    out: Path
    topic: str | None = None
    queries: Path | None = None
    truth: Path | None = None
    grid: int = 0
    corners: int = 64
    weights: str = "small"
    device: str = "auto"
    dtype: str = "float32"
    threads: int = 0
    takeover_interval: int = 1
    stretch: int = 24
    images: int | None = None
    timing_in_report: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a job; files of results are in ``folder``."""

    name: str
    folder: Path
    images: int
    """Tracked."""
    points: int
    figures: Figures
    problem: str = ""
    """Why the recording was not tracked to its end; empty if it was."""
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    """What else the reader has to know: images left out, queries not asked."""
    latency: dict[str, float] = field(default_factory=dict)
    """Milliseconds of an image, by percentile; of this run alone."""


def evaluate_recording(job: Job, start_progress: StartProgress) -> Outcome:
    """Track a recording, measure, and write tracks, figures and report.

    Raises:
        RecordingError, QueryError, PointError: the recording, the queries or the truth cannot be used. Once an image is
            tracked, a recording that breaks off is not an error: its results are kept, and ``problem`` says so.
        CheckpointError: the weights cannot be loaded.
        OSError: results cannot be written.
    """
    truth = load_truth(job.truth) if job.truth else None
    with open_recording(job.input, job.topic) as recording:
        first, frames = _peek(recording)
        queries = _queries(job, truth, first, recording)
        if job.threads:
            torch.set_num_threads(job.threads)
        model = cached_model(job.weights, job.device, job.dtype)
        job.out.mkdir(parents=True, exist_ok=True)
        total = min(recording.count, job.images or recording.count)
        replayer = Replayer(model, queries, job.takeover_interval, job.stretch)
        with start_progress(recording.name, total) as advance:
            replay = replayer.run(itertools.islice(frames, job.images), advance)
    if not replay.tracks:
        raise RecordingError(replay.problem or f"{job.input}: none of its images could be used: {replay.refused[0]}")
    return _write(job, recording, model, replay, to_judge(replay, queries, truth))


@functools.lru_cache(maxsize=1)
def cached_model(weights: str, device: str, dtype: str) -> Taptr:
    """The network, loaded once for a worker's many recordings."""
    return load_model(weights, device=device, dtype=dtype)


def _peek(recording: Recording) -> tuple[Frame, Any]:
    """The first image, and all of them."""
    first = next(recording.frames, None)
    if first is None:
        raise RecordingError(f"{recording.name}: no images in {recording.description}")
    return first, itertools.chain([first], recording.frames)


def _queries(job: Job, truth: Truth | None, first: Frame, recording: Recording) -> list[Query]:
    if truth is not None and recording.count and truth.frames > recording.count:
        raise RecordingError(
            f"{job.truth}: ground truth of {truth.frames} images, but {job.input} has {recording.count}: it belongs to "
            "another recording, or another topic"
        )
    image = first.rgb()
    size = (image.shape[0], image.shape[1])
    if job.queries is not None:
        queries = read_queries(job.queries)
        if truth is not None and len(queries) != len(truth.ids):
            raise QueryError(
                f"{job.queries} has {len(queries)} points and {job.truth} {len(truth.ids)}: the truth has to be of the "
                "same points in the same order"
            )
    elif truth is not None:
        rows = zip(truth.query_xy.tolist(), truth.query_frame.tolist(), truth.ids.tolist(), strict=True)
        queries = [Query(x, y, t, source=f"{job.truth}, point {i}") for (x, y), t, i in rows]
    elif job.grid:
        queries = grid_queries(job.grid, size)
    else:
        queries = [Query(x, y, source="corners") for x, y in spread_corners(image, job.corners).tolist()]
        if not queries:
            raise QueryError(f"{job.input}: no corners in the first image; give --queries or --grid")
    check_queries(queries, size, recording.count)
    return queries


def _write(job: Job, recording: Recording, model: Taptr, replay: Replay, judged: Judged) -> Outcome:
    figures, points = measure(judged, replay.forward_backward), point_figures(judged)
    milliseconds = np.array(replay.milliseconds[: len(replay.tracks)])
    latency = {f"p{share}": round(float(np.percentile(milliseconds, share)), 3) for share in PERCENTILES}
    latency |= {"mean": round(float(milliseconds.mean()), 3), "max": round(float(milliseconds.max()), 3)}
    notes = _notes(replay)
    about = {
        "recording": recording.name,
        "topic": recording.topic,
        "images": len(replay.tracks),
        "images_left_out": len(replay.refused),
        "points": len(judged.ids),
        "complete": not replay.problem,
        "problem": replay.problem or None,
        "weights": Path(job.weights).name,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "takeover_interval": job.takeover_interval,
    }
    content = ReportContent(
        title=recording.name + (" (partial)" if replay.problem else ""),
        facts=_facts(about, recording, judged),
        warnings=[*([f"Partial results: {replay.problem}"] if replay.problem else []), *notes],
        figures=figures,
        judged=judged,
        points=points,
        pictures=[
            (f"image {replay.numbers[i]}, {judged.seconds[i]:.2f} s", jpeg(draw_tracks(i, image, judged)))
            for i, image in replay.snapshots.pick(_PICTURES)
        ],
        returned=replay.returned,
        latency=milliseconds if job.timing_in_report else np.zeros(0),
    )
    _write_json(job.out / "metrics.json", {**about, "figures": for_json(figures)})
    _write_json(job.out / "timing.json", {"recording": recording.name, "milliseconds": latency})
    _write_points(job.out / "points.csv", points)
    (job.out / "report.html").write_text(render_report(content), encoding="utf-8")
    return Outcome(
        recording.name, job.out, len(replay.tracks), len(judged.ids), figures, replay.problem, replay.interrupted,
        tuple(notes), latency,
    )  # fmt: skip


def _notes(replay: Replay) -> list[str]:
    notes = []
    if replay.refused:
        notes.append(
            f"{len(replay.refused)} images could not be used and were left out, the first: {replay.refused[0]}"
        )
    if replay.cuts:
        notes.append(
            f"the live node, as it is configured by default, would forget all points and start anew {len(replay.cuts)} "
            f"times (max_gap), which was not done here. The first: {replay.cuts[0]}"
        )
    if replay.not_asked:
        notes.append(
            f"{len(replay.not_asked)} queries were not asked, as their images did not come or could not be used, the "
            f"first: {replay.not_asked[0].source}"
        )
    return notes


def _facts(about: dict[str, Any], recording: Recording, judged: Judged) -> list[tuple[str, str]]:
    height, width = judged.frame_size
    return [
        ("recording", f"{about['recording']}: {recording.description}"),
        ("images", f"{about['images']} of {width} x {height}, {judged.seconds[-1]:.2f} s"),
        ("points", str(about["points"])),
        ("network", f"{about['weights']}, {about['dtype']} on {about['device']}"),
    ]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_points(path: Path, points: list[PointFigures]) -> None:
    """One row a point; empty where it never happened or is not known."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([f.name for f in fields(PointFigures)])
        for point in points:
            values = asdict(point).values()
            writer.writerow(["" if isinstance(v, float) and not math.isfinite(v) else _cell(v) for v in values])


def _cell(value: float | int) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
