"""``taptr evaluate-bag``: a recording through the tracker as the live node sees it, judged, with a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taptrv2_core.cli.interrupt import first_interrupt
from taptrv2_core.cli.options import add_input_size, check_numbers
from taptrv2_core.progress import counting_bar
from taptrv2_core.replay.evaluate import evaluate_recording
from taptrv2_core.replay.job import Job, Outcome
from taptrv2_core.replay.report import sections
from taptrv2_core.stamps import MAX_GAP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``taptr evaluate-bag``."""
    add = parser.add_argument
    # fmt: off
    add("input", type=Path, metavar="BAG",
        help="a bag (ROS 1, or ROS 2 in SQLite or MCAP; file or folder), a video file, or a folder of images")
    add("--out", type=Path, metavar="DIR", help="folder of results (default: evaluation/NAME)")
    add("--timing-in-report", action="store_true",
        help="show the time of each image in the report, which then differs from run to run (else only timing.json)")
    add("--threads", type=int, default=0, metavar="N", help="CPU threads (default: PyTorch's choice)")
    # fmt: on
    add_job_arguments(parser)


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be said of one recording or of many."""
    add = parser.add_argument
    # fmt: off
    points = parser.add_argument_group("points").add_argument
    points("--queries", metavar="FILE", help="YAML, CSV or NPZ file of the points to track")
    points("--ground-truth", metavar="FILE",
        help="NPZ or CSV file of true tracks; without --queries each is queried in the first image that shows it")
    points("--reference", action="append", default=[], metavar="FILE",
        help="YAML file of a picture that is not part of the recording, and points of it to find; may be repeated")
    points("--grid", type=int, default=0, metavar="N", help="N x N points in the first image")
    points("--corners", type=int, default=64, metavar="N",
        help="without any of these: N corners of the first image (default %(default)s)")
    add("--table", choices=["csv", "parquet"], default="csv", help="kind of the table of tracks (default %(default)s)")
    add("--topic", help="image topic, for bags with several")
    add("--images", type=int, metavar="N", help="at most so many images")
    add("--model", "--weights", default="small", metavar="NAME|FILE",
        help="a shipped name or a checkpoint file (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--dtype", default="float32",
        help="float32 (default), bfloat16, float16, or auto: what the node takes, which depends on the machine")
    add("--takeover-interval", type=int, default=1, metavar="G", help="the node's parameter (default %(default)s)")
    add("--max-gap", type=float, default=MAX_GAP, metavar="S",
        help="seconds without an image after which tracking starts anew and all points are forgotten, the node's "
        "parameter (default %(default)s; 0: never); stamps that go back always do that")
    add("--stretch", type=int, default=24, metavar="N",
        help="images tracked backward at a time for the forward-backward error (default %(default)s; 0: leave it out)")
    # fmt: on
    add_input_size(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate one recording, print its figures. 0: all of it; 2: partial results; 130: interrupted."""
    check_job_numbers(args)
    with first_interrupt() as interrupted:
        outcome = evaluate_recording(job_from(args, args.input, args.out), bar_of_images, interrupted)
    print(summary(outcome))
    print(f"\n{outcome.folder / 'report.html'}")
    return exit_code(outcome)


def check_job_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing."""
    check_numbers(args, grid=0, corners=1, images=1, takeover_interval=1, max_gap=0, stretch=0, threads=0)


@contextmanager
def bar_of_images(name: str, total: int) -> Iterator[Callable[[], object]]:
    """A progress bar for one recording."""
    with counting_bar(total, "image", name) as advance:
        yield lambda: advance("")


def job_from(args: argparse.Namespace, recording: Path, out: Path | None) -> Job:
    """The job that the options describe."""
    name = recording.resolve().name if recording.is_dir() else recording.stem
    return Job(
        input=recording,
        out=out or Path("evaluation") / name,
        topic=args.topic,
        queries=_file_for(args.queries, name),
        references=tuple(_path_for(reference, name) for reference in args.reference),
        truth=_file_for(args.ground_truth, name),
        grid=args.grid,
        corners=args.corners,
        weights=args.model,
        device=args.device,
        dtype=args.dtype,
        input_size=args.input_size,
        threads=args.threads,
        takeover_interval=args.takeover_interval,
        max_gap=args.max_gap,
        stretch=args.stretch,
        images=args.images,
        table=args.table,
        timing_in_report=args.timing_in_report,
    )


def _file_for(pattern: str | None, name: str) -> Path | None:
    return None if pattern is None else _path_for(pattern, name)


def _path_for(pattern: str, name: str) -> Path:
    """A file of points for this recording: ``{}`` in the pattern stands for its name."""
    return Path(pattern.replace("{}", name))


def summary(outcome: Outcome) -> str:
    """All figures as text."""
    lines = [f"{outcome.name}: {outcome.images} images, {outcome.points} points"]
    for title, rows in sections(outcome.figures):
        lines += ["", title]
        lines += [f"  {label:22}{value:>16}   {text}" for label, value, text in rows]
    latency = ", ".join(f"{name} {value:.1f}" for name, value in outcome.latency.items())
    return "\n".join([*lines, "", f"Time of an image, ms: {latency}"])


def exit_code(outcome: Outcome) -> int:
    """Says on stderr what was left out; the command's status."""
    for note in outcome.notes:
        print(f"note: {note}", file=sys.stderr)
    if outcome.problem:
        print(f"partial results: {outcome.problem}", file=sys.stderr)
    return 130 if outcome.interrupted else 2 if outcome.problem else 0
