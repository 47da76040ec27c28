"""Bags of a small video, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags")
from camera_process import camera_image
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

VIDEO = np.stack([camera_image(i, 48, 64) for i in range(5)])
STAMPS = [1_700_000_000_000_000_000 + i * 50_000_000 for i in range(5)]


def image(store: Any, stamp: int, rgb: np.ndarray, encoding: str = "rgb8", frame_id: str = "cam") -> Any:
    types = store.types
    header = types["std_msgs/msg/Header"]
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    extra = {"seq": 0} if "seq" in header.__dataclass_fields__ else {}
    data = np.ascontiguousarray(rgb).view(np.uint8).reshape(-1)
    return types["sensor_msgs/msg/Image"](
        header=header(stamp=time, frame_id=frame_id, **extra),
        height=rgb.shape[0], width=rgb.shape[1], encoding=encoding, is_bigendian=0,
        step=data.size // rgb.shape[0], data=data,
    )  # fmt: skip


def write_ros2(folder: Path, topics: dict[str, str], **options: Any) -> Path:
    """A ROS 2 bag with the video on every topic, in that topic's encoding."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    writer = rosbag2.Writer(folder, version=9, storage_plugin=options.get("storage", rosbag2.StoragePlugin.SQLITE3))
    if "compression" in options:
        writer.set_compression(options["compression"], rosbag2.CompressionFormat.ZSTD)
    with writer:
        for topic, encoding in topics.items():
            connection = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
            for stamp, rgb in zip(STAMPS, VIDEO, strict=True):
                pixels = rgb[..., 0].astype(np.uint16) if encoding == "16UC1" else rgb
                message = image(store, stamp, pixels, encoding)
                writer.write(connection, stamp, store.serialize_cdr(message, message.__msgtype__))
        if "tracks" in options:
            kind = "taptrv2_ros/msg/PointTracks"
            writer.add_connection(options["tracks"], kind, msgdef="uint64[] ids", rihs01="RIHS01_0")
    return folder


def write_ros1(path: Path, compression: Any = None) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = rosbag1.Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connection = writer.add_connection("/cam/image", "sensor_msgs/msg/Image", typestore=store)
        for stamp, rgb in zip(STAMPS, VIDEO, strict=True):
            message = image(store, stamp, rgb)
            writer.write(connection, stamp, store.serialize_ros1(message, message.__msgtype__))
    return path
