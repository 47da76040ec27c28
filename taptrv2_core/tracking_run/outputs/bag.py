"""The recording's images, their ``PointTracks`` and an overlay as a ROS 2 bag, to be played into RViz or Foxglove."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import taptrv2_core
from taptrv2_core.drawing import DrawStyle, PointDrawer
from taptrv2_core.encodings import JPEG_FORMAT, RawImage, RgbImage, encode_jpeg
from taptrv2_core.extras import optional
from taptrv2_core.recordings import NANOSECONDS, Frame
from taptrv2_core.tracking_run.following import TrackedFrame
from taptrv2_core.tracking_run.outputs.output import JPEG_QUALITY, Labels
from taptrv2_core.velocity import Velocities

TRACKS_TOPIC = "/taptr/tracks"
OVERLAY_TOPIC = "/taptr/overlay/compressed"
_TRACKS = "taptrv2_ros/msg/PointTracks"
_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_VERSION = 8  # of metadata.yaml: the oldest that rosbags writes
_BUFFERED = 1 << 22  # bytes of a chunk that is not full yet, and more
_BYTES_A_FRAME = 128  # of the index an MCAP file gets in the end


class TracksBag:
    """A folder with ``metadata.yaml`` and an MCAP file: each image as it was recorded, its points, and an overlay.

    Topics and overlay are those of the live node, so that a viewer set up for the one shows the other. Images of videos
    and folders, which nobody compressed, are written as JPEG.
    """

    label = "Bag"

    def __init__(self, path: Path, topic: str, recorded_as_message: bool, labels: Labels) -> None:
        """``topic`` is that of the images; ``recorded_as_message`` whether they come from a bag."""
        self.path = path
        self._labels = labels
        self._as_recorded = recorded_as_message
        self._topic = topic if recorded_as_message else f"{topic}/compressed"
        self._velocities = Velocities()
        self._drawer = PointDrawer(DrawStyle(labels=True))
        self._store = _typestore()
        rosbag2 = optional("rosbags.rosbag2", "rosbags", "writing bags")
        self._writer: Any = rosbag2.Writer(path, version=_VERSION, storage_plugin=rosbag2.StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Any] = {}
        self._frames = 0

    def write(self, frame: TrackedFrame) -> None:
        """See `Output`."""
        messages = {self._topic: self._image(frame), TRACKS_TOPIC: self._points(frame)}
        if self._topic != OVERLAY_TOPIC:  # else an overlay was tracked, and is what images were recorded
            messages[OVERLAY_TOPIC] = self._overlay(frame)
        for topic, message in messages.items():
            kind = message.__msgtype__
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
            data = self._store.serialize_cdr(message, kind)
            self._writer.write(self._connections[topic], frame.source.recorded, data)
        self._frames += 1

    def close(self) -> None:
        """See `Output`."""
        self._writer.close()

    def bytes_to_close(self) -> int:
        """See `Output`."""
        return _BUFFERED + _BYTES_A_FRAME * self._frames

    def _image(self, frame: TrackedFrame) -> Any:
        image, header = frame.source.image, self._header(frame.source)
        if not self._as_recorded:
            return self._jpeg(header, frame.image)
        if isinstance(image, RawImage):
            return self._store.types[_IMAGE](
                header=header, height=image.height, width=image.width, encoding=image.encoding,
                is_bigendian=int(image.big_endian), step=image.step, data=image.data,
            )  # fmt: skip
        return self._store.types[_COMPRESSED](header=header, format=image.format, data=image.data)

    def _overlay(self, frame: TrackedFrame) -> Any:
        tracks = frame.tracks
        picture = self._drawer.draw(frame.image, tracks.ids, tracks.found_xy, tracks.visible)
        return self._jpeg(self._header(frame.source), picture)

    def _jpeg(self, header: Any, image: RgbImage) -> Any:
        data = np.frombuffer(encode_jpeg(image, JPEG_QUALITY), np.uint8)
        return self._store.types[_COMPRESSED](header=header, format=JPEG_FORMAT, data=data)

    def _header(self, frame: Frame) -> Any:
        time = self._store.types["builtin_interfaces/msg/Time"]
        stamp = time(sec=frame.stamp // NANOSECONDS, nanosec=frame.stamp % NANOSECONDS)
        return self._store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)

    def _points(self, frame: TrackedFrame) -> Any:
        """``PointTracks``, as the definition that is installed has it: fields not known here are left empty."""
        tracks = frame.tracks
        velocity = self._velocities.update(tracks, tracks.stamp / NANOSECONDS)
        groups = {"": 0}
        for point in tracks.ids.tolist():
            groups.setdefault(self._labels[point].group, len(groups))
        known = {
            "header": self._header(frame.source),
            "image_height": frame.image.shape[0],
            "image_width": frame.image.shape[1],
            "frame_index": tracks.frame_index,
            "is_final": tracks.final,
            "ids": tracks.ids.astype(np.uint64),
            "x": tracks.x,
            "y": tracks.y,
            "vx": velocity[:, 0].copy(),
            "vy": velocity[:, 1].copy(),
            "visibility": tracks.visibility,
            "visible": tracks.visible.astype(np.uint8),
            "found": tracks.found.astype(np.uint8),
            "group": np.array([groups[self._labels[i].group] for i in tracks.ids.tolist()], np.uint32),
            "group_names": list(groups),
        }
        blank = _blank(self._store, _TRACKS)
        return self._store.types[_TRACKS](**{name: known.get(name, value) for name, value in blank.items()})


def _typestore() -> Any:
    """ROS's own messages, and ours as it is installed."""
    typesys = optional("rosbags.typesys", "rosbags", "writing bags")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    store.register(typesys.get_types_from_msg(tracks_definition().read_text(encoding="utf-8"), _TRACKS))
    return store


def tracks_definition() -> Path:
    """``PointTracks.msg`` of this package: of a built workspace, of the source, or installed by pip."""
    package = Path(taptrv2_core.__file__).parent
    workspaces = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    # PREFIX/lib/python3.x/site-packages, or what was given to pip --target
    prefixes: list[str | Path] = [
        *workspaces,
        *package.parents[:5],
        sys.prefix,
    ]
    candidates = [Path(prefix, "share", "taptrv2_ros", "msg", "PointTracks.msg") for prefix in prefixes]
    candidates.append(package.parent / "msg" / "PointTracks.msg")
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        "PointTracks.msg is not installed: build the package, or install it with pip, to write bags"
    )


def _blank(store: Any, kind: str) -> dict[str, Any]:
    """Every field of a message with ROS's default."""
    typesys = optional("rosbags.interfaces", "rosbags", "writing bags")
    node = typesys.Nodetype
    blank: dict[str, Any] = {}
    for name, (form, detail) in store.fielddefs[kind][1]:
        if form == node.BASE:
            base = detail[0]
            blank[name] = "" if base == "string" else False if base == "bool" else 0
        elif form == node.NAME:
            blank[name] = store.types[detail](**_blank(store, detail))
        else:
            (inner, base), length = detail
            numeric = inner == node.BASE and base[0] != "string"
            count = length if form == node.ARRAY else 0
            blank[name] = np.zeros(count, base[0]) if numeric else [""] * count
    return blank
