"""One recording from its file to its folder of results: the same by command, in a worker process, or on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch

from taptrv2_core.checkpoint import load_model
from taptrv2_core.encodings import RgbImage
from taptrv2_core.errors import QueryError, RecordingError
from taptrv2_core.extras import optional
from taptrv2_core.model import Taptr
from taptrv2_core.query_files import Query, grid_queries, read_queries
from taptrv2_core.recordings import Recording, open_recording
from taptrv2_core.reference_files import read_reference
from taptrv2_core.replay.job import Job, Outcome
from taptrv2_core.replay.results import FILES, write_results
from taptrv2_core.replay.run import Replay, Replayer, to_judge
from taptrv2_core.replay.truth import Truth, load_truth
from taptrv2_core.seeding import spread_corners
from taptrv2_core.stamps import StampWatch
from taptrv2_core.threads import ReadAhead
from taptrv2_core.tracking_run import PointSource
from taptrv2_core.tracking_run.outputs.output import Output
from taptrv2_core.tracking_run.outputs.table import CsvTable, ParquetTable
from taptrv2_core.tracking_run.outputs.tapvid import TapVidArrays
from taptrv2_core.tracking_run.reading import Decoder, look_ahead
from taptrv2_core.tracking_run.workspace import Workspace
from taptrv2_core.tracking_run.writing import OutputError, Outputs

_AHEAD = 4  # images decoded before they are tracked
_SHOWN = 5  # resets named in a note; metrics.json has all

StartProgress = Callable[[str, int], AbstractContextManager[Callable[[], object]]]
"""Called with the recording's name and how many images it has (0: not known); what it gives is called after each."""
Stop = Callable[[], bool]
"""Whether to end early, with what there is; asked before each image."""


def no_progress(name: str, total: int) -> AbstractContextManager[Callable[[], object]]:
    """A ``StartProgress`` that shows nothing."""
    return nullcontext(lambda: None)


def evaluate_recording(job: Job, start_progress: StartProgress = no_progress, stop: Stop = lambda: False) -> Outcome:
    """Track a recording, measure, and write tracks, figures and report.

    Raises:
        RecordingError, QueryError: the recording, the queries or the truth cannot be used. Once an image is tracked, a
            recording that breaks off is not an error: its results are kept, and the outcome's ``problem`` says so.
        CheckpointError: the weights cannot be loaded.
        MissingPackageError: a package that reports or this recording need is not installed.
        OSError: results cannot be written.
    """
    for package in ("matplotlib", "jinja2"):  # before anything that takes long
        optional(package, package, "the report")
    truth = load_truth(job.truth) if job.truth else None
    references = [read_reference(path) for path in job.references]
    with open_recording(job.input, job.topic) as recording:
        decoder = Decoder(recording, job.images, lambda _: None, StampWatch(job.max_gap))
        with ReadAhead(decoder.frames(), _AHEAD) as ready:
            head, frames = look_ahead(iter(ready))
            if not head:
                raise RecordingError(f"{job.input}: no usable image in it: {decoder.first_problem or 'empty'}")
            first = head[0].image
            queries = _queries(job, truth, first, recording)
            points = PointSource(queries, references=references)
            points.begin((first.shape[0], first.shape[1]), recording.count)
            if job.threads:
                torch.set_num_threads(job.threads)
            model = cached_model(job.weights, job.device, job.dtype, job.input_size)
            workspace = Workspace(job.out, [f"tracks.{job.table}", "tracks.npz", *FILES], job.input)
            outputs = Outputs(workspace.partial, _outputs(job, workspace.partial, points))
            replayer = Replayer(model, points, job.takeover_interval, job.stretch, outputs.put)
            with start_progress(recording.name, min(recording.count, job.images or recording.count)) as advance:
                replay = _finish(outputs, lambda: replayer.run(frames, advance, stop))
    if not replay.tracks:
        raise RecordingError(f"{job.input}: {replay.problem}")
    if points.unmet and not points.asked and not points.sought:
        replay.problem = replay.problem or "no point was tracked: no query's image came, or none could be used"
    judged = to_judge(replay, points, queries, truth)
    notes = _notes(replay, decoder, points)
    outcome = write_results(workspace.partial, job, recording, model, replay, judged, notes)
    if outcome.problem:
        return outcome
    workspace.publish()
    return outcome.moved(workspace.folder)


@functools.lru_cache(maxsize=1)
def cached_model(weights: str, device: str, dtype: str, input_size: tuple[int, int] | None) -> Taptr:
    """The network, loaded once for a worker's many recordings."""
    return load_model(weights, device, input_size, dtype)


def _finish(outputs: Outputs, run: Callable[[], Replay]) -> Replay:
    """Run, and finish the files of tracks whatever happens."""
    try:
        replay = run()
    except BaseException:
        with suppress(OSError):  # what happened first is told
            outputs.close()
        raise
    try:
        outputs.close()
    except OutputError as error:
        replay.problem = replay.problem or str(error)
    return replay


def _outputs(job: Job, folder: Path, points: PointSource) -> list[Output]:
    kind = CsvTable if job.table == "csv" else ParquetTable
    return [
        kind(folder / f"tracks.{job.table}", points.labels),
        TapVidArrays(folder / "tracks.npz", points.labels),
    ]


def _queries(job: Job, truth: Truth | None, image: RgbImage, recording: Recording) -> list[Query]:
    if truth is not None and recording.count and truth.frames > recording.count:
        raise RecordingError(
            f"{job.truth}: ground truth of {truth.frames} images, but {job.input} has {recording.count}: it belongs to "
            "another recording, or another topic"
        )
    if job.queries is not None:
        queries = read_queries(job.queries)
        if truth is not None and len(queries) != len(truth.ids):
            raise QueryError(
                f"{job.queries} has {len(queries)} points and {job.truth} {len(truth.ids)}: the truth has to be of the "
                "same points in the same order"
            )
        return queries
    if truth is not None:
        rows = zip(truth.query_xy.tolist(), truth.query_frame.tolist(), truth.ids.tolist(), strict=True)
        return [Query(x, y, t, source=f"{job.truth}, point {i}") for (x, y), t, i in rows]
    if job.grid:
        return grid_queries(job.grid, (image.shape[0], image.shape[1]))
    if job.references:
        return []
    corners = [Query(x, y, source="corners") for x, y in spread_corners(image, job.corners).tolist()]
    if not corners:
        raise QueryError(f"{job.input}: no corners in the first image; give --queries, --reference or --grid")
    return corners


def _notes(replay: Replay, decoder: Decoder, points: PointSource) -> list[str]:
    """What the reader has to know beside the figures."""
    notes = []
    if decoder.left_out:
        notes.append(
            f"{decoder.left_out} images could not be used and are left out; the first: {decoder.first_problem}"
        )
    if decoder.repeated:
        notes.append(f"{decoder.repeated} images had the stamp of the one before and are left out, as the node does")
    if replay.resets:
        shown = "; ".join(replay.resets[:_SHOWN]) + ("; ..." if len(replay.resets) > _SHOWN else "")
        count = len(replay.resets)
        times = "once" if count == 1 else f"{count} times"
        notes.append(f"tracking started anew {times}, as in the live node (max_gap): {shown}")
    if points.sought:
        notes.append(
            f"{points.sought} points are of references: they have figures of their own, and count beside those only "
            "where tracks are followed forward and backward"
        )
    if points.unmet:
        notes.append(
            f"{len(points.unmet)} queries were not asked, as their images did not come or could not be used; the "
            f"first: {points.unmet[0].source}"
        )
    return notes
