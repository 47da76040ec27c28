"""What several subcommands do with their options."""

from __future__ import annotations

import argparse
import warnings

from taptrv2_core.checkpoint import load_model
from taptrv2_core.cli import CommandError
from taptrv2_core.model import Taptr
from taptrv2_core.progress import say


def check_numbers(args: argparse.Namespace, **least: int) -> None:
    """Refuse options, by their names in ``args``, that are given and below a number. Raises CommandError."""
    for name, minimum in least.items():
        value = getattr(args, name)
        if value is not None and value < minimum:
            raise CommandError(f"--{name.replace('_', '-')} {value}: must be at least {minimum}")


def add_input_size(parser: argparse.ArgumentParser) -> None:
    """The option ``--input-size``."""
    parser.add_argument(
        "--input-size", type=size, metavar="N|WxH",
        help="images are reduced or enlarged to N x N, or W x H, for the network (default: the weights' own, 288 for "
        "small). Larger is more accurate where images have the detail, and slower",
    )  # fmt: skip


def size(word: str) -> tuple[int, int]:
    """ "640x480" -> (480, 640), "384" -> (384, 384). Raises argparse.ArgumentTypeError for other words."""
    width, _, height = word.partition("x") if "x" in word else (word, "x", word)
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(
            f"'{word}' is not a size; expected WIDTHxHEIGHT, such as 640x480, or one number"
        )
    return int(height), int(width)


def network(args: argparse.Namespace) -> Taptr:
    """The network that ``model``, ``device``, ``dtype`` and ``input_size`` name; says in one line if it has not been
    trained."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that the weights are untrained is said below
        model = load_model(args.model, device=args.device, input_size=args.input_size, dtype=args.dtype)
    if not model.trained:
        say(f"taptr {args.command}: the weights are untrained ({model.source}): the tracks mean nothing")
    return model
