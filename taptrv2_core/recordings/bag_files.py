"""A bag's files opened for reading: by rosbags, and what ends too soon by what gets at the whole part of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, BinaryIO

from taptrv2_core.errors import MissingPackageError
from taptrv2_core.extras import optional
from taptrv2_core.recordings.cut_mcap import cut_mcap
from taptrv2_core.recordings.cut_sqlite import CutSqlite

ROS1 = (".bag", ".bag.active")
"""The second while it is being recorded, and afterwards if the recorder was killed."""
_BLOCK = 1 << 16  # bytes: of a damaged one nothing is unpacked
SUFFIXES = (".mcap", ".db3", *ROS1, ".mcap.zstd", ".db3.zstd")


def open_readers(files: Sequence[Path], stack: ExitStack) -> tuple[list[Any], bool]:
    """Readers of a bag's files or folders, closed with ``stack``, and whether one of the files ends too soon.

    Raises EOFError or what rosbags raises, if nothing can be read.
    """
    module = optional("rosbags.rosbag1" if is_ros1(files) else "rosbags.rosbag2", "rosbags", "reading bags")
    unpacked = [_plain(file, stack) for file in files]
    files = [file for file, _ in unpacked]
    cut = not all(whole for _, whole in unpacked)
    try:
        return _entered([module.Reader(file) for file in files], stack), cut
    except MissingPackageError:
        raise
    except Exception as error:  # rosbags raises many types for files that are not bags, or damaged ones
        failure = error
    parts = [part for file in files for part in (_inside(file) if file.is_dir() else [file])]
    readers: list[Any] = []
    for packed in parts:
        part, whole = _plain(packed, stack)
        cut = cut or not whole
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


def _plain(file: Path, stack: ExitStack) -> tuple[Path, bool]:
    """The file, or what a file that is compressed as a whole unpacks to, as far as it goes; and whether that is all."""
    if file.suffix != ".zstd":
        return file, True
    target = Path(stack.enter_context(TemporaryDirectory(prefix="taptr_bag_")), file.stem)
    with file.open("rb") as packed, target.open("wb") as plain:
        return target, _unpack(packed, plain)


def _unpack(packed: BinaryIO, plain: BinaryIO) -> bool:
    """Write all that can be unpacked; whether that is all. (The module's own files keep back what a last read gave.)"""
    frame = zstd().ZstdDecompressor()
    while block := packed.read(_BLOCK):
        while block:
            if frame.eof:  # another one follows
                frame = zstd().ZstdDecompressor()
            try:
                plain.write(frame.decompress(block))
            except zstd().ZstdError:  # zeros, or otherwise damaged
                return False
            block = frame.unused_data if frame.eof else b""
    return bool(frame.eof)
