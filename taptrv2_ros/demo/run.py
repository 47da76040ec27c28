"""The demo from end to end: recording, node, points, tracks, pictures."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.drawing import DrawStyle, PointDrawer, VideoWriter, write_caption
from taptrv2_core.evaluation.tracking import TrackResult
from taptrv2_core.extras import optional
from taptrv2_core.recordings import ConversionError, Frame, Recording, RecordingError, open_recording
from taptrv2_core.regions import points_in_region
from taptrv2_core.seeding import spread_corners
from taptrv2_ros.conversions import RgbImage, frame_message
from taptrv2_ros.demo.client import Client
from taptrv2_ros.demo.node_process import NodeProcess
from taptrv2_ros.demo.plot import write_plot
from taptrv2_ros.demo.recorder import Recorder, from_message, new_points
from taptrv2_ros.demo.score import Score, Truth, score_all, score_table
from taptrv2_ros.own_domain import use_own_domain

Xy = NDArray[np.float32]
INTERRUPTED = 130
_HEAD = 6  # images looked at beforehand


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    input: Path | None
    out: Path
    points: int
    topic: str | None
    weights: str
    device: str
    frames: int | None
    timeout: float


@dataclass
class Outputs:
    """What one run produces."""

    folder: Path
    rate: float
    recorder: Recorder = field(default_factory=Recorder)
    drawer: PointDrawer = field(default_factory=lambda: PointDrawer(DrawStyle(min_width=640)))
    image_size: tuple[int, int] = (0, 0)
    tracking_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.writer = VideoWriter(self.folder / "overlay.mp4", self.rate)

    def draw(self, image: RgbImage, caption: str) -> None:
        """The newest image and its points, as the next one of the video."""
        self.image_size = (image.shape[0], image.shape[1])
        points = self.recorder.frames[-1]
        picture = self.drawer.draw(image, points.ids, points.xy, points.visible)
        write_caption(picture, caption)
        self.writer.write(picture)


def run(options: Options) -> int:
    """Play, track, draw. Returns the exit status; raises DemoError, RecordingError or MissingPackageError, one line."""
    for module, package in (("av", "av"), ("matplotlib", "matplotlib"), ("tqdm", "tqdm")):
        optional(module, package, "the demo")
    source, truth, folder = _prepare(options)
    with source:
        return _run(options, source, truth, folder)


def _run(options: Options, source: Recording, truth: Truth | None, folder: Path) -> int:
    frames, rate = _peek(source, options.frames)
    total = min(source.count, options.frames or source.count) or None
    _say("Input", f"{options.input or 'generated clip'}: {source.description}")
    pick = _from_truth(truth) if truth else _corners(options.points)
    outputs = Outputs(folder, rate)
    domain = use_own_domain()
    log = folder / "node.log"
    interrupted = False
    with NodeProcess(_node_parameters(options, source), log, lambda text: _note(f"node: {text}")) as node:
        _say("Node", f"taptr, process {node.pid}, ROS_DOMAIN_ID {domain}, its output in {log}")
        try:
            with Client(source.topic, source.compressed, node.check, options.timeout) as client:
                client.wait_for_node()
                _play(frames, total, client, pick, outputs)
        except KeyboardInterrupt:
            interrupted = True
            _note("interrupted: keeping what was tracked so far")
        finally:
            _finish(outputs, options, source, truth)
    _report(outputs, node.warnings)
    return INTERRUPTED if interrupted else 0


def _prepare(options: Options) -> tuple[Recording, Truth | None, Path]:
    """The recording, its truth if the project made it, and the folder of results."""
    if options.input is not None:
        source = open_recording(options.input, options.topic)
        folder = options.out / source.name
        _make(folder)
        return source, None, folder
    if options.topic is not None:
        raise RecordingError("--topic chooses a topic of a bag; give the bag as INPUT")
    from taptrv2_core.demos.clip import CLIP  # the generator is needed for nothing else
    from taptrv2_ros.demo.clip import make_clip

    folder = options.out / "generated"
    _make(folder)
    _say("Clip", "a generated one, for which every point's true way is known")
    bag, truth = make_clip(folder, replace(CLIP, points=options.points))
    return replace(open_recording(bag), name="generated"), truth.until(options.frames or len(truth.xy)), folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be made for the results: {error.strerror}") from error


def _peek(source: Recording, limit: int | None) -> tuple[Iterator[Frame], float]:
    """All images of the recording, and its images a second by the first few stamps."""
    head = list(itertools.islice(source.frames, _HEAD))
    if len(head) < 2:
        raise RecordingError(f"{source.name}: {len(head)} image in the recording; following points takes at least 2")
    steps = np.diff([frame.stamp for frame in head]) / 1e9
    step = float(np.median(steps))
    rate = float(np.clip(1 / step, 1, 60)) if step > 0 else 20.0
    return itertools.islice(itertools.chain(head, source.frames), limit), rate


def _node_parameters(options: Options, source: Recording) -> dict[str, Any]:
    return {
        "image_topic": source.topic,
        "image_transport": "compressed" if source.compressed else "raw",
        "image_reliability": "reliable",  # every image is to be tracked, however slow the machine
        "weights": options.weights,
        "device": options.device,
        "max_points": max(1024, options.points),
    }


def _corners(count: int) -> Callable[[int, RgbImage], Xy]:
    none = np.zeros((0, 2), np.float32)
    return lambda index, image: spread_points(image, count) if index == 0 else none


def spread_points(image: RgbImage, count: int) -> Xy:
    """Corners all over the image, or any points of it where it has none."""
    corners = spread_corners(image, count)
    height, width = image.shape[:2]
    whole = [(-0.5, -0.5), (width - 0.5, height - 0.5)]
    return corners if len(corners) else points_in_region(whole, (height, width), count=count).astype(np.float32)


def _from_truth(truth: Truth) -> Callable[[int, RgbImage], Xy]:
    """Each point at its own image: most at the first, others while the recording runs."""
    return lambda index, _: truth.query_xy[truth.query_frame == index]


def _play(
    frames: Iterator[Frame],
    total: int | None,
    client: Client,
    pick: Callable[[int, RgbImage], Xy],
    outputs: Outputs,
) -> None:
    """In lockstep: the next image goes out when the tracks of the one before have come."""
    tqdm = optional("tqdm", "tqdm", "the demo").tqdm
    slow = 0.1 if sys.stderr.isatty() else 10.0
    bar = tqdm(frames, desc="Tracking", total=total, unit="image", mininterval=slow, dynamic_ncols=True, leave=True)
    index = 0
    for frame in bar:
        try:
            image = frame.rgb()
        except ConversionError as error:
            bar.write(f"  an image is left out: {error}")
            continue
        _track(frame, index, client, outputs)
        xy = pick(index, image)
        if len(xy):
            ids = client.add_points(xy[:, 0].tolist(), xy[:, 1].tolist())
            outputs.recorder.add_to_newest(new_points(ids, xy))
        points = outputs.recorder.frames[-1]
        seen = int(points.visible.sum())
        outputs.draw(image, f"image {index + 1}   {len(points.ids)} points, {seen} visible")
        index += 1
    if index < 2:
        raise RecordingError(f"{index} usable image in the recording; following points takes at least 2")
    time.sleep(0.3)  # the last refined tracks may still be on their way
    outputs.recorder.refine(client.refined())


def _track(frame: Frame, index: int, client: Client, outputs: Outputs) -> None:
    message = frame_message(frame)
    started = time.perf_counter()
    tracks, refined = client.play(message)
    if index:  # the first has no points yet
        outputs.tracking_seconds += time.perf_counter() - started
    outputs.recorder.add(frame.stamp, from_message(tracks))
    outputs.recorder.refine(refined)


def _finish(outputs: Outputs, options: Options, source: Recording, truth: Truth | None) -> None:
    """Write what there is, whatever happened."""
    outputs.writer.close()
    if not outputs.recorder.frames:
        return
    table = outputs.recorder.table()
    outputs.recorder.write_csv(outputs.folder / "tracks.csv")
    scores = _score(outputs.recorder, truth, outputs.folder) if truth and len(table.seconds) > 1 else []
    title = f"{source.name}: {len(table.ids)} points, {len(table.seconds)} images, weights '{options.weights}'"
    write_plot(outputs.folder / "tracks.png", table, outputs.image_size, title, scores)
    if scores:
        print("\nError against the truth, all visible points in all images after the one they were added in:")
        for line in score_table(scores):
            print(f"  {line}")
    print()


def _score(recorder: Recorder, truth: Truth, folder: Path) -> list[Score]:
    """The points were added in the order of their images, and ids rise: that tells which is which."""
    table = recorder.table()
    truth = truth.until(len(table.seconds))
    order = np.argsort(truth.query_frame, kind="stable")
    truth = Truth(truth.query_frame[order], truth.xy[:, order], truth.visible[:, order])
    with open_recording(folder / "clip") as source:
        video = np.stack([frame.rgb() for frame in itertools.islice(source.frames, len(table.seconds))])
    live = TrackResult(np.where(np.isfinite(table.xy), table.xy, truth.query_xy), table.visible)
    return score_all(live, truth, video)


def _report(outputs: Outputs, warnings: list[str]) -> None:
    frames = len(outputs.recorder.frames)
    if not frames:
        return
    if outputs.tracking_seconds:
        speed = (frames - 1) / outputs.tracking_seconds
        _say("Speed", f"{speed:.1f} images/s from publishing an image to receiving its tracks, one at a time")
    _say("Overlay", f"{outputs.folder / 'overlay.mp4'} ({frames} images)")
    _say("Plot", str(outputs.folder / "tracks.png"))
    _say("Table", str(outputs.folder / "tracks.csv"))
    for warning in dict.fromkeys(warnings):
        _note(f"Note: {warning}")


def _say(what: str, text: str) -> None:
    print(f"{what:9}{text}", flush=True)


def _note(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
