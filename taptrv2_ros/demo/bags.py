"""Image topics of ROS 1 and ROS 2 bags, read with rosbags: no ROS bag library needed."""

from __future__ import annotations

from array import array
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_ros.demo.errors import InputError, optional

BAG_SUFFIXES = (".mcap", ".db3", ".bag")
_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Bag:
    """One image topic of a bag."""

    description: str
    topic: str
    compressed: bool
    count: int
    messages: Generator[Image | CompressedImage, None, None]


@dataclass(frozen=True)
class _Topic:
    """An image topic as the bag has it."""

    name: str
    kind: str
    count: int
    depth: bool
    connections: tuple[Any, ...]

    def __str__(self) -> str:
        what = "depth images" if self.depth else "compressed images" if self.kind == _COMPRESSED else "images"
        return f"{self.name} ({self.count} {what})"


def find_bag(path: Path) -> list[Path]:
    """The files or folders to open for a bag at this path; none if there is no bag."""
    if path.is_file():
        return [path] if path.suffix in BAG_SUFFIXES else []
    if (path / "metadata.yaml").is_file():
        return [path]
    return sorted(f for f in path.iterdir() if f.suffix in BAG_SUFFIXES)


def open_bag(path: Path, files: list[Path], topic: str | None) -> Bag:
    """Choose the image topic of a bag. Raises InputError: no bag, no images, or several topics to choose from."""
    anyreader = optional("rosbags.highlevel", "rosbags", "reading bags")
    reader = anyreader.AnyReader(files)
    try:
        reader.open()
        decode = _Decoder(reader.is2)
        topics = _image_topics(reader, decode)
    except InputError:
        raise
    except Exception as error:  # rosbags raises many types for files that are not bags, or damaged ones
        raise InputError(f"{path}: cannot be read as a bag: {_one_line(error)}") from error
    chosen = _choose(path, topics, topic)
    others = ", ".join(str(t) for t in topics if t is not chosen)
    description = f"{'ROS 2' if reader.is2 else 'ROS 1'} bag, topic {chosen}" + (
        f"; not played: {others}" if others else ""
    )
    return Bag(description, chosen.name, chosen.kind == _COMPRESSED, chosen.count, _read(path, reader, decode, chosen))


class _Decoder:
    """Serialized messages of a bag -> rclpy messages."""

    def __init__(self, ros2: bool) -> None:
        typesys = optional("rosbags.typesys", "rosbags", "reading bags")
        store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE if ros2 else typesys.Stores.ROS1_NOETIC)
        self._deserialize = store.deserialize_cdr if ros2 else store.deserialize_ros1

    def __call__(self, raw: bytes, kind: str) -> Image | CompressedImage:
        data = bytes(raw)
        if data[:4] == _ZSTD_MAGIC:  # each message compressed, and no metadata.yaml to say so
            data = _unpack(data)
        read = self._deserialize(data, kind)
        message = Image() if kind == _IMAGE else CompressedImage()
        message.header.frame_id = read.header.frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = read.header.stamp.sec, read.header.stamp.nanosec
        names = ("height", "width", "encoding", "is_bigendian", "step") if kind == _IMAGE else ("format",)
        for name in names:
            setattr(message, name, getattr(read, name))
        message.data = array("B", np.ascontiguousarray(read.data).tobytes())
        return message


def _image_topics(reader: Any, decode: _Decoder) -> list[_Topic]:
    found: dict[str, list[Any]] = {}
    for connection in reader.connections:
        if _kind(connection) in (_IMAGE, _COMPRESSED) and connection.msgcount:
            found.setdefault(connection.topic, []).append(connection)
    return [
        _Topic(
            name,
            _kind(connections[0]),
            sum(c.msgcount for c in connections),
            _is_depth(reader, decode, connections),
            tuple(connections),
        )
        for name, connections in sorted(found.items())
    ]


def _kind(connection: Any) -> str:
    """The message type with its middle part, which some recorders leave out."""
    package, name = connection.msgtype.split("/", 1)
    return f"{package}/msg/{name.removeprefix('msg/')}"


def _is_depth(reader: Any, decode: _Decoder, connections: list[Any]) -> bool:
    _, _, raw = next(iter(reader.messages(connections=connections)))
    first = decode(raw, _kind(connections[0]))
    if isinstance(first, CompressedImage):
        return "compressedDepth" in first.format or first.format.startswith(("16UC", "32FC"))
    return str(first.encoding).startswith(("16UC", "32FC"))


def _choose(path: Path, topics: list[_Topic], wanted: str | None) -> _Topic:
    listing = "; ".join(str(t) for t in topics)
    if not topics:
        raise InputError(f"{path}: no images in this bag (no sensor_msgs/Image or CompressedImage)")
    if wanted is not None:
        for topic in topics:
            if topic.name == wanted:
                return topic
        raise InputError(f"{path}: no image topic '{wanted}' in this bag; it has {listing}")
    usable = [t for t in topics if not t.depth]
    # The same camera recorded twice: raw images are what the compressed ones were made from.
    names = {t.name for t in usable}
    usable = [
        t
        for t in usable
        if t.name.removesuffix("/compressed") == t.name or t.name.removesuffix("/compressed") not in names
    ]
    if not usable:
        raise InputError(
            f"{path}: only depth images in this bag ({listing}); points are tracked in colour or grey ones"
        )
    if len(usable) > 1:
        raise InputError(f"{path}: several image topics; choose one with --topic: {listing}")
    return usable[0]


def _read(path: Path, reader: Any, decode: _Decoder, topic: _Topic) -> Generator[Image | CompressedImage, None, None]:
    try:
        for _, _, raw in reader.messages(connections=topic.connections):
            yield decode(raw, topic.kind)
    except Exception as error:
        raise InputError(f"{path}: damaged at this place: {_one_line(error)}") from error
    finally:
        reader.close()


def _unpack(data: bytes) -> bytes:
    try:
        zstd = optional("compression.zstd", "backports.zstd", "reading this bag")  # in Python from 3.14 on
    except Exception:
        zstd = optional("backports.zstd", "backports.zstd", "reading this bag")
    return bytes(zstd.decompress(data))


def _one_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
