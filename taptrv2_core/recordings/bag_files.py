"""A bag's files opened for reading: by rosbags, and what ends too soon by what gets at the whole part of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from taptrv2_core.errors import MissingPackageError
from taptrv2_core.extras import optional
from taptrv2_core.recordings.cut_mcap import cut_mcap
from taptrv2_core.recordings.cut_sqlite import CutSqlite

ROS1 = (".bag", ".bag.active")
"""The second while it is being recorded, and afterwards if the recorder was killed."""
SUFFIXES = (".mcap", ".db3", *ROS1, ".mcap.zstd", ".db3.zstd")


def open_readers(files: Sequence[Path], stack: ExitStack) -> tuple[list[Any], bool]:
    """Readers of a bag's files or folders, closed with ``stack``, and whether one of the files ends too soon.

    Raises EOFError or what rosbags raises, if nothing can be read.
    """
    module = optional("rosbags.rosbag1" if is_ros1(files) else "rosbags.rosbag2", "rosbags", "reading bags")
    files = [_plain(file, stack) for file in files]
    try:
        return _entered([module.Reader(file) for file in files], stack), False
    except MissingPackageError:
        raise
    except Exception as error:  # rosbags raises many types for files that are not bags, or damaged ones
        failure = error
    parts = [part for file in files for part in (_inside(file) if file.is_dir() else [file])]
    readers: list[Any] = []
    cut = False
    for part in [_plain(part, stack) for part in parts]:
        with suppress(Exception):
            readers += _entered([module.Reader(part)], stack)
            continue
        cut = True
        with suppress(Exception):
            readers += _entered([_mended(part, module)], stack)
    if cut and any(connection.msgcount for reader in readers for connection in reader.connections):
        return readers, True
    if len(readers) == len(parts):
        raise EOFError("cut off before its first whole message") from failure
    raise failure


def is_ros1(files: Sequence[Path]) -> bool:
    """Whether they are of ROS 1."""
    return any(file.name.endswith(ROS1) for file in files)


def zstd() -> ModuleType:
    """The module for this compression. Raises MissingPackageError."""
    try:
        return optional("compression.zstd", "backports.zstd", "reading this bag")  # in Python from 3.14 on
    except MissingPackageError:
        return optional("backports.zstd", "backports.zstd", "reading this bag")


def _entered(readers: list[Any], stack: ExitStack) -> list[Any]:
    """All of them open, or none."""
    with ExitStack() as attempt:
        for reader in readers:
            attempt.enter_context(reader)
        stack.enter_context(attempt.pop_all())
    return readers


def _mended(part: Path, module: ModuleType) -> Any:
    """A reader of the whole part of a file. Raises many types: there is none."""
    if part.suffix == ".mcap":
        return module.Reader(cut_mcap(part))
    if part.suffix == ".db3":
        return CutSqlite(part)
    from taptrv2_core.recordings.cut_ros1 import CutRos1  # needs rosbags

    return CutRos1(part)


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name.endswith(SUFFIXES))


def _plain(file: Path, stack: ExitStack) -> Path:
    """The file, or what a file that is compressed as a whole unpacks to, as far as it goes."""
    if file.suffix != ".zstd":
        return file
    target = Path(stack.enter_context(TemporaryDirectory(prefix="taptr_bag_")), file.stem)
    ends_too_soon = (EOFError, zstd().ZstdError)  # the second where what follows are zeros or otherwise damaged
    with zstd().open(file, "rb") as packed, target.open("wb") as plain, suppress(*ends_too_soon):
        shutil.copyfileobj(packed, plain)
    return target
