"""Image topics of ROS 1 and ROS 2 bags, read with rosbags: no ROS needed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taptrv2_core.encodings import CompressedImage, RawImage
from taptrv2_core.errors import MissingPackageError, RecordingError
from taptrv2_core.extras import optional
from taptrv2_core.recordings.bag_files import SUFFIXES, is_ros1, open_readers, zstd
from taptrv2_core.recordings.recording import NANOSECONDS, Frame, Recording

_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_TRACKS = "taptrv2_ros/msg/PointTracks"
_DEPTH = ("16UC", "32FC")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_RECOVER = {
    ".bag": "`rosbag reindex` saves what is in it",
    ".db3": "`sqlite3 FILE .recover` saves what is in it",
}


@dataclass(frozen=True)
class _Topic:
    """An image topic as the bag has it."""

    name: str
    kind: str
    count: int
    depth: bool
    drawn: bool
    """A tracker's own pictures."""
    sources: tuple[tuple[Any, list[Any]], ...]
    """Each of the bag's readers that has it, with the connections there."""

    def __str__(self) -> str:
        what = "compressed images" if self.kind == _COMPRESSED else "images"
        what = "depth images" if self.depth else f"{what} with points drawn in" if self.drawn else what
        return f"{self.name} ({self.count} {what})"


def find_bag(path: Path) -> list[Path]:
    """The files or folders to open for a bag at this path; none if there is no bag."""
    if path.is_file():
        return [path] if path.name.endswith(SUFFIXES) else []
    if (path / "metadata.yaml").is_file():
        return [path]
    return sorted(f for f in path.iterdir() if f.name.endswith(SUFFIXES))


def open_bag(path: Path, files: list[Path], topic: str | None) -> Recording:
    """Choose the image topic of a bag. Raises RecordingError: no bag, no images, or several topics to choose from."""
    optional("rosbags", "rosbags", "reading bags")
    ros2 = not is_ros1(files)
    with ExitStack() as stack:  # closed here if anything fails, by the reader of the frames otherwise
        try:
            readers, cut = open_readers(files, stack)
            decode = _decoder(ros2)
            topics = _image_topics(readers, decode)
        except (RecordingError, MissingPackageError):
            raise
        except Exception as error:  # rosbags raises many types for files that are not bags, or damaged ones
            raise RecordingError(
                f"{path}: cannot be read as a bag: {_one_line(error).rstrip('.')}{_advice(files)}"
            ) from error
        chosen = _choose(path, topics, topic)
        others = ", ".join(str(t) for t in topics if t is not chosen)
        description = f"{'ROS 2' if ros2 else 'ROS 1'} bag, topic {chosen}"
        description += f"; not played: {others}" if others else ""
        name = path.resolve().name if path.is_dir() else _stem(path)
        held = stack.pop_all()
        frames = _read(path, chosen, decode, held, cut)
        return Recording(
            name, description, chosen.name, is_bag=True, compressed=chosen.kind == _COMPRESSED, count=chosen.count,
            frames=frames, files=held,
        )  # fmt: skip


def _decoder(ros2: bool) -> Callable[[bytes, int, str], Frame]:
    """Serialized image message, time of recording, message type -> Frame.

    ROS's own definitions are used: those in a bag are missing in older ones, and the same wherever they are there.
    """
    typesys = optional("rosbags.typesys", "rosbags", "reading bags")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE if ros2 else typesys.Stores.ROS1_NOETIC)
    deserialize = store.deserialize_cdr if ros2 else store.deserialize_ros1

    def decode(raw: bytes, recorded: int, kind: str) -> Frame:
        data = bytes(raw)
        if data[:4] == _ZSTD_MAGIC:  # each message compressed, and no metadata.yaml to say so
            data = zstd().decompress(data)
        message = deserialize(data, kind)
        pixels = np.asarray(message.data, dtype=np.uint8)
        image = (
            RawImage(pixels, message.encoding, message.height, message.width, message.step, bool(message.is_bigendian))
            if kind == _IMAGE
            else CompressedImage(pixels, message.format)
        )
        stamp = message.header.stamp
        return Frame(stamp.sec * NANOSECONDS + stamp.nanosec, recorded, message.header.frame_id, image)

    return decode


def _image_topics(readers: list[Any], decode: Callable[[bytes, int, str], Frame]) -> list[_Topic]:
    found: dict[str, list[tuple[Any, list[Any]]]] = {}
    for reader in readers:
        for connection in reader.connections:
            if _kind(connection) in (_IMAGE, _COMPRESSED) and connection.msgcount:
                sources = found.setdefault(connection.topic, [])
                if not sources or sources[-1][0] is not reader:
                    sources.append((reader, []))
                sources[-1][1].append(connection)
    drawn = _overlays(readers)
    topics = []
    for name, sources in sorted(found.items()):
        kind = _kind(sources[0][1][0])
        count = sum(c.msgcount for _, connections in sources for c in connections)
        topics.append(_Topic(name, kind, count, _is_depth(sources, kind, decode), name in drawn, tuple(sources)))
    return topics


def _overlays(readers: list[Any]) -> set[str]:
    """Where trackers publish their overlays: beside their tracks."""
    tracks = {c.topic for reader in readers for c in reader.connections if _kind(c) == _TRACKS}
    overlays = {f"{topic.rpartition('/')[0]}/overlay" for topic in tracks}
    return overlays | {f"{topic}/compressed" for topic in overlays}


def _kind(connection: Any) -> str:
    """The message type with its middle part, which some recorders leave out."""
    package, name = connection.msgtype.split("/", 1)
    return f"{package}/msg/{name.removeprefix('msg/')}"


def _is_depth(sources: list[tuple[Any, list[Any]]], kind: str, decode: Callable[[bytes, int, str], Frame]) -> bool:
    _, recorded, raw = next(iter(_messages(sources)))
    image = decode(raw, recorded, kind).image
    if isinstance(image, CompressedImage):
        return "compressedDepth" in image.format or image.format.startswith(_DEPTH)
    return image.encoding.startswith(_DEPTH)


def _messages(sources: Any) -> Generator[tuple[Any, int, bytes], None, None]:
    """(connection, nanoseconds, data) of all files of a bag, in order of time."""
    yield from heapq.merge(*(reader.messages(connections) for reader, connections in sources), key=lambda m: m[1])


def _choose(path: Path, topics: list[_Topic], wanted: str | None) -> _Topic:
    listing = "; ".join(str(t) for t in topics)
    if not topics:
        raise RecordingError(f"{path}: no images in this bag (no sensor_msgs/Image or CompressedImage)")
    if wanted is not None:
        for topic in topics:
            if topic.name == wanted:
                return topic
        raise RecordingError(f"{path}: no image topic '{wanted}' in this bag; it has {listing}")
    colour = [t for t in topics if not t.depth]
    usable = [t for t in colour if not t.drawn] or colour
    # The same camera recorded twice: raw images are what the compressed ones were made from.
    names = {t.name for t in usable}
    usable = [
        t
        for t in usable
        if t.name.removesuffix("/compressed") == t.name or t.name.removesuffix("/compressed") not in names
    ]
    if not usable:
        raise RecordingError(
            f"{path}: only depth images in this bag ({listing}); points are tracked in colour or grey ones"
        )
    if len(usable) > 1:
        raise RecordingError(f"{path}: several image topics; choose one with --topic: {listing}")
    return usable[0]


def _read(
    path: Path, topic: _Topic, decode: Callable[[bytes, int, str], Frame], files: ExitStack, cut: bool
) -> Generator[Frame, None, None]:
    done = 0
    with files:
        try:
            for _, recorded, raw in _messages(topic.sources):
                frame = decode(raw, recorded, topic.kind)
                yield frame
                done += 1
        except Exception as error:
            raise RecordingError(f"{path}: damaged after {done} of {topic.count} images: {_one_line(error)}") from error
    if cut:
        raise RecordingError(f"{path}: cut off or damaged while recorded or copied; the {done} images in it were read")


def _stem(path: Path) -> str:
    return next((path.name.removesuffix(s) for s in reversed(SUFFIXES) if path.name.endswith(s)), path.stem)


def _advice(files: list[Path]) -> str:
    """What helps where a recorder was cut off before it could finish its file."""
    parts = [part for f in files for part in (f.iterdir() if f.is_dir() else [f])]
    kinds = {Path(part.name.removesuffix(".zstd").removesuffix(".active")).suffix for part in parts}
    hints = [hint for suffix, hint in _RECOVER.items() if suffix in kinds]
    return f". If the recording was cut off: {hints[0]}" if hints else ""


def _one_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
