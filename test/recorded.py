"""Small recordings for tests: a texture that slides by (2, 1) pixels an image, as a ROS 2 bag."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags import rosbag2

from taptrv2_ros.demo.clip import write_bag

HEIGHT, WIDTH, STEP = 72, 96, (2.0, 1.0)


def sliding_video(frames: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    """(T, H, W, 3) RGB."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height + frames, width + 2 * frames, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)
    starts = [(frames - t, 2 * (frames - t)) for t in range(frames)]
    return np.stack([texture[y : y + height, x : x + width] for y, x in starts])


def sliding_bag(folder: Path, frames: int, seed: int = 0) -> Path:
    """A bag of it, in MCAP; images 50 ms apart."""
    write_bag(folder, sliding_video(frames, seed=seed))
    return folder


def stamped_bag(folder: Path, stamps: Sequence[float]) -> Path:
    """The same with stamps of our own, in seconds."""
    plain = sliding_bag(folder.with_name(f"{folder.name}_plain"), len(stamps))
    with rosbag2.Reader(plain) as source, rosbag2.Writer(
        folder, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP
    ) as target:  # fmt: skip
        (topic,) = source.connections
        copy = target.add_connection(topic.topic, topic.msgtype, msgdef=topic.msgdef.data, rihs01=topic.digest)
        for (_, recorded, data), stamp in zip(source.messages(), stamps, strict=True):
            seconds, rest = divmod(round(stamp * 1e9), 1_000_000_000)
            # Serialized, the header's stamp comes first, behind four bytes that name the encoding.
            target.write(copy, recorded, bytes(data[:4]) + struct.pack("<iI", seconds, rest) + bytes(data[12:]))
    return folder
