"""A recording from file to files: read ahead, track, write behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taptrv2_core.errors import ImageError, RecordingError
from taptrv2_core.extras import optional
from taptrv2_core.model import Taptr
from taptrv2_core.query_files import Query, read_queries
from taptrv2_core.recordings import Recording, open_recording
from taptrv2_core.reference_files import read_reference
from taptrv2_core.threads import ReadAhead
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracking_run.following import DecodedFrame, Follower
from taptrv2_core.tracking_run.outputs.bag import TracksBag
from taptrv2_core.tracking_run.outputs.output import Labels, Output
from taptrv2_core.tracking_run.outputs.overlay import OverlayVideo
from taptrv2_core.tracking_run.outputs.rerun import RerunRecording
from taptrv2_core.tracking_run.outputs.table import CsvTable, ParquetTable
from taptrv2_core.tracking_run.outputs.tapvid import TapVidArrays
from taptrv2_core.tracking_run.points import PointSource
from taptrv2_core.tracking_run.reading import Decoder, image_rate, look_ahead
from taptrv2_core.tracking_run.workspace import Workspace
from taptrv2_core.tracking_run.writing import OutputError, Outputs, abandon

_AHEAD = 4  # images
OVERLAY_WIDTH = 640  # what drawing and encoding cost grows with the area
INTERRUPTED = "interrupted"
SUMMARY = "run.json"

Bar = Callable[[int], AbstractContextManager[Callable[[str], object]]]
"""Given the number of images, 0 if unknown: a context with a function that counts one more."""


@dataclass(frozen=True)
class TrackOptions:
    """What is to be done."""

    input: Path
    out: Path | None = None
    """Folder of results; None: named after the recording."""
    topic: str | None = None
    images: int | None = None
    """Most images to read."""
    references: tuple[Path, ...] = ()
    queries: Path | None = None
    clicks: tuple[Query, ...] = ()
    grid: int = 0
    seed: int = 0
    streaming: bool = False
    takeover_interval: int = 1
    table: str = "csv"
    overlay: bool = True
    overlay_width: int = OVERLAY_WIDTH
    """Pixels; wider images are reduced for it. 0: none are."""
    rerun: bool = False
    bag: bool = False


def check_packages(options: TrackOptions) -> None:
    """Whether everything that the outputs need is installed: asked before anything that takes long.

    Raises MissingPackageError.
    """
    for wanted, module, package, purpose in (
        (options.overlay, "av", "av", "the overlay video (or leave it out with --no-overlay)"),
        (options.table == "parquet", "pyarrow", "pyarrow", "writing Parquet"),
        (options.rerun, "rerun", "rerun-sdk", "writing a Rerun recording"),
        (options.bag, "rosbags", "rosbags", "writing bags"),
    ):
        if wanted:
            optional(module, package, purpose)


@dataclass
class Outcome:
    """What was done."""

    folder: Path
    """Of the files; its name ends in ``partial`` unless everything went well."""
    files: dict[str, str] = field(default_factory=dict)
    """Path of each output by what it is."""
    images: int = 0
    """Tracked and written."""
    points: int = 0
    left_out: int = 0
    """Images that could not be decoded."""
    seconds: float = 0.0
    """From the first image to the last file."""
    tracking_seconds: float = 0.0
    """Of those, spent in the tracker."""
    stopped: str = ""
    """Why it ended before the recording did; empty: it did not."""
    unmet: list[str] = field(default_factory=list)
    """Queries whose image never came."""


class Run:
    """One run of ``taptr track``."""

    def __init__(self, options: TrackOptions, tell: Callable[[str], None], stop: Callable[[], bool]) -> None:
        """``tell`` gets lines for the user, from any thread; ``stop`` says whether to end early, once an image."""
        self._options, self._tell, self._stop = options, tell, stop

    def __call__(self, load_model: Callable[[], Taptr], bar: Bar) -> Outcome:
        """Track the recording. What went wrong after the first image is in the outcome.

        Raises:
            QueryError, RecordingError, MissingPackageError, OSError: nothing could be done.
        """
        options = self._options
        check_packages(options)
        queries = read_queries(options.queries) if options.queries else []
        references = [read_reference(path) for path in options.references]
        points = PointSource([*queries, *options.clicks], options.grid, options.seed, references)
        with open_recording(options.input, options.topic) as recording:
            self._tell(f"Input    {options.input}: {recording.description}")
            decoder = Decoder(recording, options.images, self._tell)
            with ReadAhead(decoder.frames(), _AHEAD) as ready:
                head, frames = look_ahead(iter(ready))
                if not head:
                    raise RecordingError(f"{options.input}: no usable image in it: {decoder.first_problem or 'empty'}")
                total = min(recording.count, options.images or recording.count)
                height, width = head[0].image.shape[:2]
                points.begin((height, width), total)
                workspace = Workspace(self._folder(recording), [*self._names(), SUMMARY], options.input)
                # Before the network is loaded, which takes as long as the overlay's process takes to start.
                outputs = self._outputs(workspace.partial, recording, image_rate(head), points.labels)
                try:
                    tracker = Tracker(load_model(), points.max_points, options.takeover_interval)
                except BaseException:
                    abandon(outputs)
                    workspace.discard()
                    raise
                outcome = Outcome(workspace.partial)
                with bar(total) as count:
                    self._track(frames, Follower(tracker, points, options.streaming), outputs, outcome, count)
            outcome.left_out = decoder.left_out
            outcome.unmet = [q.source for q in points.unmet]
            outcome.points = len(points.labels)
            self._conclude(workspace, recording, outputs, outcome)
            return outcome

    def _track(
        self,
        frames: Iterator[DecodedFrame],
        follower: Follower,
        outputs: list[Output],
        outcome: Outcome,
        count: Callable[[str], object],
    ) -> None:
        writer = Outputs(outcome.folder, outputs)
        started = time.perf_counter()
        try:
            for frame in frames:
                if self._stop():
                    outcome.stopped = INTERRUPTED
                    break
                begun = time.perf_counter()
                done = follower.push(frame)
                outcome.tracking_seconds += time.perf_counter() - begun
                for tracked in done:
                    writer.put(tracked)
                count("")
        except (RecordingError, ImageError, OutputError) as error:
            outcome.stopped = str(error)
        except BaseException:
            with suppress(OSError):
                writer.close()
            raise
        try:
            try:
                for tracked in follower.finish():
                    writer.put(tracked)
            finally:
                writer.close()
        except OSError as error:
            outcome.stopped = outcome.stopped or str(error)
        outcome.images = writer.frames
        outcome.seconds = time.perf_counter() - started

    def _folder(self, recording: Recording) -> Path:
        return self._options.out or Path("taptr_output") / recording.name

    def _names(self) -> list[str]:
        options = self._options
        wanted = {"overlay.mp4": options.overlay, "tracks.rrd": options.rerun, "tracks_bag": options.bag}
        return [f"tracks.{options.table}", "tracks.npz", *(name for name, yes in wanted.items() if yes)]

    def _outputs(self, folder: Path, recording: Recording, rate: float, labels: Labels) -> list[Output]:
        make: dict[str, Callable[[Path], Output]] = {
            "tracks.csv": lambda path: CsvTable(path, labels),
            "tracks.parquet": lambda path: ParquetTable(path, labels),
            "tracks.npz": lambda path: TapVidArrays(path, labels),
            "overlay.mp4": lambda path: OverlayVideo(path, rate, self._options.overlay_width),
            "tracks.rrd": lambda path: RerunRecording(path, labels),
            "tracks_bag": lambda path: TracksBag(path, recording.topic, recording.is_bag, labels),
        }
        return [make[name](folder / name) for name in self._names()]

    def _conclude(self, workspace: Workspace, recording: Recording, outputs: list[Output], outcome: Outcome) -> None:
        """Say in a file what was done, and move the files up if everything was."""
        whole = not outcome.stopped
        outcome.folder = workspace.folder if whole else workspace.partial
        outcome.files = {o.label: str(outcome.folder / o.path.name) for o in outputs if o.path.exists()}
        about: dict[str, Any] = {"complete": whole, "topic": recording.topic, "options": asdict(self._options)}
        about |= asdict(outcome)
        with suppress(OSError):  # on a full disk; everything in it is printed too
            (workspace.partial / SUMMARY).write_text(json.dumps(about, indent=2, default=str) + "\n", encoding="utf-8")
        if whole:
            workspace.publish()
            if older := workspace.older():
                self._tell(f"Note     {workspace.folder}: {', '.join(older)} are an earlier run's, left as they were")
