"""``taptr demo``: what tracks are good for, to look at."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from taptrv2_core.cli import CommandError
from taptrv2_core.cli.interrupt import first_interrupt
from taptrv2_core.cli.options import add_input_size, network
from taptrv2_core.demos.click import PORT, VideoStage, serve
from taptrv2_core.demos.clip import CLIP, FLAT, FLAT_SEED, SEED
from taptrv2_core.demos.rainbow import draw_rainbow
from taptrv2_core.demos.source import Images, open_images
from taptrv2_core.demos.sticker import Box, Surface, draw_sticker, follow_surface, load_artwork, own_artwork
from taptrv2_core.drawing import VideoWriter
from taptrv2_core.encodings import RgbImage
from taptrv2_core.errors import RecordingError, VideoError
from taptrv2_core.extras import optional
from taptrv2_core.progress import counting_bar
from taptrv2_core.tracking_run.writing import OutputError, check_room

Step = TypeVar("Step")
_BUFFERED = 1 << 20  # bytes the encoder may still hold, and the index that a video gets in the end
_CLIPS_BOX = Box(125, 165, 110, 110)  # in the generated clip: shapes pass there


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``taptr demo``."""
    demos = parser.add_subparsers(dest="demo", required=True, metavar="DEMO")
    rainbow = demos.add_parser("rainbow", help="a dense grid of points with rainbow tails, as a video")
    _add_common(rainbow)
    _add_video(rainbow)
    rainbow.add_argument(
        "--grid", type=_positive, default=24, metavar="N", help="points along the longer side (default %(default)s)"
    )
    sticker = demos.add_parser("sticker", help="an image that stays on the surface it was put on, as a video")
    _add_common(sticker)
    _add_video(sticker)
    sticker.add_argument(
        "--image", type=Path, metavar="FILE", help="the sticker, PNG with alpha or any image (default: one of our own)"
    )
    sticker.add_argument("--box", type=_box, metavar="X,Y,W,H", help="where it is put, pixels (default: the middle)")
    sticker.add_argument("--frame", type=_number, default=0, metavar="K", help="image it is put on, from 0 (default 0)")
    click = demos.add_parser("click", help="a page in the browser: click points, and tracks follow them")
    _add_common(click)
    click.add_argument("--port", type=_number, default=PORT, help="on 127.0.0.1; 0: any (default %(default)s)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    # fmt: off
    add("input", nargs="?", type=Path, metavar="INPUT",
        help="a bag, a video file or a folder of images; without it, a generated clip")
    add("--topic", help="image topic, for bags with several")
    add("--model", "--weights", default="small", help="shipped name or checkpoint file (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--dtype", default="auto", help="float32, bfloat16, float16 (default auto, the fastest)")
    # fmt: on
    add_input_size(parser)


def _add_video(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, metavar="FILE", help="video to write (default DEMO_NAME.mp4 in this folder)")
    add("--frames", type=_positive, metavar="N", help="only the first so many images")


def run(args: argparse.Namespace) -> int:
    """Make what was asked for. Returns the exit code."""
    out = getattr(args, "out", None)
    if out is not None and not out.parent.is_dir():
        raise CommandError(f"{out}: the folder {out.parent} does not exist; make it first")
    if out is not None and out.is_dir():
        raise CommandError(f"{out}: is a folder; --out names the video")
    demos: dict[str, Callable[[argparse.Namespace], int]] = {"rainbow": _rainbow, "sticker": _sticker, "click": _click}
    return demos[args.demo](args)


def _rainbow(args: argparse.Namespace) -> int:
    optional("av", "av", "writing videos")
    model = network(args)
    with _open(args) as source:
        return _write(args, source, draw_rainbow(model, source, args.grid))


def _sticker(args: argparse.Namespace) -> int:
    optional("av", "av", "writing videos")
    box = _CLIPS_BOX if args.input is None and args.box is None else args.box
    artwork = own_artwork() if args.image is None else load_artwork(args.image)
    model = network(args)
    with _open(args) as source:
        steps = follow_surface(model, source.images, args.frame, box)
        surface = None
        for step in _with_progress(steps, source.count, "Tracking"):
            surface = step if isinstance(step, Surface) else None
    assert surface is not None  # it comes last
    lost = sum(not placement.sure for placement in surface.placements)
    if lost:
        print(
            f"taptr demo: in {lost} of {len(surface.placements)} images the surface was not found; it is bridged there",
            file=sys.stderr,
        )
    with _open(args) as source:
        return _write(args, source, draw_sticker(source.images, surface, artwork))


def _click(args: argparse.Namespace) -> int:
    if args.input is None and args.topic is not None:
        raise CommandError("--topic names a topic of a bag; for a live one: ros2 run taptrv2_ros click_page --help")
    model = network(args)
    with VideoStage(lambda: open_images(args.input, args.topic), model) as stage:
        serve(stage, args.port)
    return 0


def _open(args: argparse.Namespace) -> Images:
    clip = {"rainbow": (CLIP, SEED), "sticker": (FLAT, FLAT_SEED)}[args.demo]
    return open_images(args.input, args.topic, args.frames, *clip)


def _write(args: argparse.Namespace, source: Images, pictures: Iterator[RgbImage]) -> int:
    """Write pictures into the file asked for, or, if they end too soon, into one beside it whose name says so."""
    path = args.out or Path(f"{args.demo}_{source.name}.mp4")
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    status = 0
    with first_interrupt() as interrupted, _video(partial, source.rate) as writer:
        try:
            for picture in _with_progress(pictures, source.count, "Drawing"):
                check_room(path.parent, _BUFFERED)
                writer.write(picture)
                if interrupted():
                    status = 130
                    break
        except RecordingError as error:
            print(f"taptr demo: {error}", file=sys.stderr)
            status = 2
        except OutputError as error:
            print(f"taptr demo: {error}", file=sys.stderr)
            status = 1
    if not writer.frames:
        print("taptr demo: stopped before the first image was done; nothing is written", file=sys.stderr)
        return status or 1
    if status:
        print(f"{partial}: {writer.frames} images (stopped before the end)")
    else:
        partial.replace(path)
        print(f"{path}: {writer.frames} images")
    return status


@contextmanager
def _video(path: Path, rate: float) -> Iterator[VideoWriter]:
    try:
        with VideoWriter(path, rate) as writer:
            yield writer
    except VideoError:
        path.unlink(missing_ok=True)  # without its end no player opens it
        raise


def _with_progress(steps: Iterator[Step], total: int, what: str) -> Iterator[Step]:
    with counting_bar(total, "image", what) as advance:
        for step in steps:
            advance("")
            yield step


def _positive(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number above 0")
    return int(word)


def _number(word: str) -> int:
    if not word.isdigit():
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number, 0 or above")
    return int(word)


def _box(word: str) -> Box:
    """ "190,140,110,80" -> Box."""
    try:
        return Box(*map(float, word.split(",", 3)))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"'{word}' is not a box; expected X,Y,WIDTH,HEIGHT in pixels") from None
