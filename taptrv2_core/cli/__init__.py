"""The ``taptr`` command.

A subcommand is one row in ``COMMANDS`` and one module with two functions:

    add_arguments(parser: argparse.ArgumentParser) -> None    its options
    run(args: argparse.Namespace) -> int                      does it; the exit code

The module is imported only when its subcommand is called, so it may import torch at its top. For what the user can put
right ``run`` raises ValueError, OSError, CheckpointError, MissingPackageError or ``CommandError`` with a message that
says what, where and what to do: it is printed without a traceback, and the exit code is 1, or 2 where a recording or
the queries cannot be used (RecordingError, QueryError). Any other exception is a fault of the program and shows its
traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from taptrv2_core.errors import CheckpointError, MissingPackageError, QueryError, RecordingError
from taptrv2_core.startup import needed_packages, settle_environment


class CommandError(Exception):
    """Something the user can put right; the message says what, where and what to do."""


class SecondInterrupt(KeyboardInterrupt):
    """Ctrl-C while the first one is still being heeded: the process is to end at once."""


class Command(NamedTuple):
    """A subcommand: its module, and its line in ``taptr --help``."""

    module: str
    help: str


COMMANDS = {
    "track": Command("taptrv2_core.cli.track", "track points through a recording: tables, video, bag"),
    "train": Command("taptrv2_core.cli.train", "train a network, from scratch or on from an earlier run"),
    "evaluate": Command("taptrv2_core.cli.evaluate", "measure accuracy on videos with ground truth, beside baselines"),
    "demo": Command("taptrv2_core.cli.demo", "show what tracks are good for: pictures of ways, stickers, clicks"),
    "evaluate-bag": Command(
        "taptrv2_core.cli.evaluate_bag", "track a recording as the live node does, and judge the tracks in a report"
    ),
    "evaluate-bags": Command(
        "taptrv2_core.cli.evaluate_bags",
        "the same for many recordings, on all devices of this machine or a Ray cluster",
    ),
    "bench": Command("taptrv2_core.cli.bench", "measure speed on this machine, beside other methods"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``taptr``; ``argv`` without the program's name. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    settle_environment()
    with needed_packages("taptr"):  # the subcommand's imports, which take seconds
        args = build_parser(words).parse_args(words)
    module = importlib.import_module(COMMANDS[args.command].module)
    try:
        return int(module.run(args))
    except (CommandError, CheckpointError, MissingPackageError, ValueError, OSError) as error:
        if args.debug:
            raise
        if isinstance(error, BrokenPipeError):  # the reader, `head` for one, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        print(f"taptr {args.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, (RecordingError, QueryError)) else 1
    except KeyboardInterrupt as error:
        print(f"taptr {args.command}: interrupted", file=sys.stderr)
        if isinstance(error, SecondInterrupt):
            _leave(130)
        return 130


def _leave(status: int) -> NoReturn:
    """End without Python's own end: that kills threads still in C++ when they come back, and so aborts the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Names the file in what goes wrong while it is written; a full disk does not say which one it was."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot be written: {error.strerror}") from error


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all subcommands; only the one named in ``words`` gets its options."""
    parser = argparse.ArgumentParser(prog="taptr", description="TAPTRv2 point tracking.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of any error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help[0].upper() + command.help[1:] + ".")
        if name in words:
            importlib.import_module(command.module).add_arguments(sub)
    return parser
