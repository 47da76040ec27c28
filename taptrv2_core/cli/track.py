"""``taptr track``: points through a recording, into files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from taptrv2_core.cli import CommandError
from taptrv2_core.cli.interrupt import first_interrupt
from taptrv2_core.cli.options import add_input_size, check_numbers, network
from taptrv2_core.demos.click import PORT, collect_clicks
from taptrv2_core.progress import counting_bar, say
from taptrv2_core.query_files import Query
from taptrv2_core.startup import keep_freed_memory
from taptrv2_core.tracking_run.run import INTERRUPTED, OVERLAY_WIDTH, Outcome, Run, TrackOptions, check_packages

_SEED = 64
_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``taptr track``."""
    add = parser.add_argument
    # fmt: off
    add("input", type=Path, metavar="INPUT",
        help="a bag (ROS 1, or ROS 2 in SQLite or MCAP; file or folder), a video file, or a folder of images")
    add("--out", type=Path, metavar="DIR", help="folder of results (default: taptr_output/NAME)")
    add("--topic", help="image topic, for bags with several")
    add("--images", type=int, metavar="N", help="at most so many images")
    points = parser.add_argument_group("points", "any of these together").add_argument
    points("--queries", type=Path, metavar="FILE",
        help="YAML, CSV or NPZ file of points: x, y in pixels, frame (from 0) or stamp, and if wanted name and group")
    points("--reference", type=Path, action="append", default=[], metavar="FILE",
        help="YAML file of a picture that is not part of the recording, and points of it to find; may be repeated")
    points("--grid", type=int, default=0, metavar="N", help="N x N points in the first image")
    points("--seed", type=int, metavar="N",
        help=f"keep N points alive at corners of the image, new ones for lost ones (without any of these: {_SEED})")
    points("--click", action="store_true", help="points clicked in a page in the browser, before tracking begins")
    points("--port", type=int, default=PORT, help="of that page on 127.0.0.1; 0: any (default %(default)s)")
    outputs = parser.add_argument_group("outputs", "beside tracks.npz and run.json").add_argument
    outputs("--table", choices=["csv", "parquet"], default="csv", help="kind of the table (default %(default)s)")
    outputs("--overlay", action=argparse.BooleanOptionalAction, default=True, help="overlay.mp4, the points drawn")
    outputs("--overlay-width", type=int, default=OVERLAY_WIDTH, metavar="N",
        help="pixels; wider images are reduced for it (default %(default)s; 0: they are not, which takes longer)")
    outputs("--rerun", action="store_true", help="tracks.rrd for the Rerun viewer")
    outputs("--bag", action="store_true", help="tracks_bag, the images and their PointTracks, for RViz or Foxglove")
    add("--streaming", action="store_true",
        help="what the live node says of each image at once, instead of the refined tracks, known up to 7 images later")
    add("--takeover-interval", type=int, default=1, metavar="G",
        help="committing windows between renewals of a point's appearance (default %(default)s)")
    add("--model", "--weights", default="small", metavar="NAME|FILE",
        help="a shipped name or a checkpoint file (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--dtype", default="auto", help="float32, bfloat16, float16 (default: the fastest that fits)")
    add("--threads", type=int, default=0, metavar="N", help="CPU threads (default: PyTorch's choice)")
    # fmt: on
    add_input_size(parser)


def run(args: argparse.Namespace) -> int:
    """Track. 0: all of it; 2: partial results; 130: interrupted, with partial results."""
    check_numbers(args, images=1, overlay_width=0, grid=0, seed=0, takeover_interval=1, threads=0)
    keep_freed_memory()
    cv2.setNumThreads(1)  # its threads spin, in the way of those that track
    if args.threads:
        torch.set_num_threads(args.threads)
    files = args.queries is not None or args.reference
    nothing_said = not files and not args.grid and args.seed is None and not args.click
    options = TrackOptions(
        input=args.input, out=args.out, topic=args.topic, images=args.images, references=tuple(args.reference),
        queries=args.queries, grid=args.grid, seed=_SEED if nothing_said else args.seed or 0, streaming=args.streaming,
        takeover_interval=args.takeover_interval, table=args.table, overlay=args.overlay,
        overlay_width=args.overlay_width, rerun=args.rerun,
        bag=args.bag,
    )  # fmt: skip
    if args.click:
        check_packages(options)
        options = replace(options, clicks=_clicks(args))
    with first_interrupt() as interrupted:
        outcome = Run(options, say, interrupted)(lambda: network(args), lambda n: counting_bar(n, "image", "Tracking"))
    return _report(outcome)


def _clicks(args: argparse.Namespace) -> tuple[Query, ...]:
    clicks = collect_clicks(args.input, args.topic, args.port)
    if not clicks:
        raise CommandError("no points were clicked, so there is nothing to track")
    return tuple(clicks)


def _report(outcome: Outcome) -> int:
    """Say what was done; the command's status."""
    for name, path in outcome.files.items():
        print(f"{name:9}{path}")
    if outcome.images and outcome.seconds:
        label, rate = "Partial" if outcome.stopped else "Done", outcome.images / outcome.seconds
        print(f"{label:9}{outcome.points} points in {outcome.images} images, {rate:.1f} images/s")
    if outcome.left_out:
        say(f"taptr track: {outcome.left_out} images could not be decoded and were left out")
    for source in outcome.unmet[:_SHOWN]:
        say(f"taptr track: {source}: its image never came, so it was not tracked")
    if len(outcome.unmet) > _SHOWN:
        say(f"taptr track: and {len(outcome.unmet) - _SHOWN} more queries")
    if not outcome.stopped:
        return 2 if outcome.unmet else 0
    say(f"taptr track: {outcome.stopped}; partial results: {outcome.images} images, in {outcome.folder}")
    return 130 if outcome.stopped == INTERRUPTED else 2
