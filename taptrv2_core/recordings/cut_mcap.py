"""MCAP files whose index is missing or damaged: a recorder that lost its power could not write what readers begin with.

File systems may leave zeros behind, where the length of a file reached the disk and its content did not. The whole
records are read as a file without an index, which the format allows: a footer is put behind the last one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_MAGIC = b"\x89MCAP0\r\n"
_DATA_END = b"\x0f"
_RECORD_HEAD = 9  # one byte of kind, eight of length
_FOOTER = b"\x02" + (20).to_bytes(8, "little") + bytes(20) + _MAGIC  # that there is no summary


@dataclass(frozen=True)
class CutMcap:
    """Stands for the path of such a file where rosbags is given one."""

    path: Path
    end: int
    """Bytes of it that are whole records."""
    suffix: str = ".mcap"

    def exists(self) -> bool:
        """As of a path."""
        return True

    def is_dir(self) -> bool:
        """As of a path."""
        return False

    def open(self, *_: Any) -> BinaryIO:
        """The mended file, for reading."""
        return io.BufferedReader(_Mended(self.path, self.end))

    def __str__(self) -> str:
        return str(self.path)


def cut_mcap(path: Path) -> CutMcap:
    """The file as far as its records are whole. Raises EOFError: it is no MCAP file."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise EOFError("no MCAP file")
        return CutMcap(path, _end_of_records(file, len(_MAGIC), path.stat().st_size))


def _end_of_records(file: BinaryIO, start: int, size: int) -> int:
    """Bytes up to the end of the last whole record of data; the index comes behind these."""
    last = end = start
    while True:
        file.seek(end)
        head = file.read(_RECORD_HEAD)
        if head[:1] == b"\0":  # no kind of record: zeros, which may have begun in the record before
            file.seek(end - 1)
            return last if file.read(1) == b"\0" else end
        after = end + _RECORD_HEAD + int.from_bytes(head[1:], "little")
        if len(head) < _RECORD_HEAD or after > size or head[:1] == _DATA_END:
            return end
        last, end = end, after


class _Mended(io.RawIOBase):
    """The first ``end`` bytes of a file, then a footer."""

    def __init__(self, path: Path, end: int) -> None:
        self._file = path.open("rb")
        self._end = end
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._end + len(_FOOTER)}[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        if self._place < self._end:
            self._file.seek(self._place)
            data = self._file.read(min(wanted, self._end - self._place))
        else:
            data = _FOOTER[self._place - self._end :][:wanted]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
