"""ROS 1 bags that end too soon: a recorder that was killed could not write the index that readers begin with.

Every chunk has a small index of its own behind it, and in it what is recorded of a topic before its first message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rosbags.rosbag1.reader import Header, ReaderError, RecordType, decompressors, read_uint32

from taptrv2_core.recordings.cut_sqlite import CutTopic


class _Record(NamedTuple):
    kind: int
    header: Header
    place: int
    """Of its data in the file."""
    size: int


class CutRos1:
    """Reads the whole chunks of such a file. It has what is used of rosbags' readers."""

    def __init__(self, path: Path) -> None:
        """Raises ReaderError: it is no bag."""
        self._file = path.open("rb")
        self._chunks: list[_Record] = []
        topics: dict[int, tuple[str, str]] = {}
        counts: Counter[int] = Counter()
        try:
            if self._file.readline() != b"#ROSBAG V2.0\n":
                raise ReaderError("File magic is invalid.")
            for record in _records(self._file, path.stat().st_size):
                if record.kind == RecordType.CHUNK:
                    self._chunks.append(record)
                elif record.kind == RecordType.IDXDATA and self._chunks:
                    topic = record.header.get_uint32("conn")
                    counts[topic] += record.header.get_uint32("count")
                    if topic not in topics:
                        topics |= self._topics(self._chunks[-1])
        except BaseException:
            self._file.close()
            raise
        self.connections = [CutTopic(i, *topics[i], count) for i, count in counts.items() if i in topics]

    def __enter__(self) -> CutRos1:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def messages(self, connections: list[Any]) -> Generator[tuple[Any, int, bytes], None, None]:
        """(connection, nanoseconds, data) in the order they were recorded in."""
        wanted = {connection.id: connection for connection in connections}
        for chunk in self._chunks:
            data = self._unpacked(chunk)
            for record in _records(BytesIO(data), len(data)):
                if record.kind == RecordType.MSGDATA and record.header.get_uint32("conn") in wanted:
                    message = data[record.place : record.place + record.size]
                    yield wanted[record.header.get_uint32("conn")], record.header.get_time("time"), message

    def _topics(self, chunk: _Record) -> dict[int, tuple[str, str]]:
        """Name and type of the topics that begin in a chunk."""
        data = self._unpacked(chunk)
        found = {}
        for record in _records(BytesIO(data), len(data)):
            if record.kind == RecordType.CONNECTION:
                fields = data[record.place : record.place + record.size]
                about = Header.read(BytesIO(record.size.to_bytes(4, "little") + fields))
                found[record.header.get_uint32("conn")] = record.header.get_string("topic"), about.get_string("type")
        return found

    def _unpacked(self, chunk: _Record) -> bytes:
        self._file.seek(chunk.place)
        return decompressors[chunk.header.get_string("compression")](self._file.read(chunk.size))


def _records(file: BinaryIO, end: int) -> Generator[_Record, None, None]:
    """From where the file stands, as long as they are whole."""
    while file.tell() < end:
        try:
            header = Header.read(file)
            kind, size = header.get_uint8("op"), read_uint32(file)
        except ReaderError:
            return
        place = file.tell()
        if place + size > end:
            return
        yield _Record(kind, header, place, size)
        file.seek(place + size)
