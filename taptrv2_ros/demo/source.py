"""Recordings as a stream of ROS image messages: bags, video files, folders of images."""

from __future__ import annotations

from array import array
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_ros.demo.bags import find_bag, open_bag
from taptrv2_ros.demo.errors import InputError
from taptrv2_ros.messages import NANOSECONDS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
VIDEO_TOPIC = "/camera/image_raw"
FOLDER_RATE = 20.0  # images a second, where the files do not say


@dataclass(frozen=True)
class Source:
    """A recording that is ready to be played."""

    name: str
    """Short, for the folder of results."""
    description: str
    topic: str
    """Topic to play it on, as recorded."""
    compressed: bool
    """Whether the messages are CompressedImage."""
    count: int
    """Images in it, as far as it says beforehand; 0 if it does not."""
    messages: Generator[Image | CompressedImage, None, None]

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.messages.close()


def open_source(path: Path, topic: str | None = None) -> Source:
    """Open a bag (ROS 1, ROS 2; file or folder), a video file or a folder of images.

    ``topic`` chooses among a bag's image topics. Raises InputError saying what is wrong with the path or the topic.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    files = find_bag(path)
    if files:
        bag = open_bag(path, files, topic)
        name = (path.parent if path.is_file() and path.parent.name == path.stem else path).stem
        return Source(name, bag.description, bag.topic, bag.compressed, bag.count, bag.messages)
    if topic is not None:
        raise InputError(f"{path}: only bags have topics; leave --topic out")
    return _folder(path) if path.is_dir() else _video(path)


def image_message(rgb: NDArray[np.uint8], nanoseconds: int, frame_id: str = "camera") -> Image:
    """(H, W, 3) RGB as ``sensor_msgs/Image`` in rgb8."""
    message = Image(encoding="rgb8", height=rgb.shape[0], width=rgb.shape[1], step=3 * rgb.shape[1])
    message.header.frame_id = frame_id
    message.header.stamp = Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)
    message.data = array("B", np.ascontiguousarray(rgb).tobytes())
    return message


def _folder(path: Path) -> Source:
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"{path}: a folder with neither a bag (metadata.yaml, .mcap, .db3, .bag) nor images in it")
    description = f"{len(files)} image files, played at {FOLDER_RATE:g} a second"
    return Source(path.resolve().name, description, VIDEO_TOPIC, False, len(files), _read_folder(files))


def _read_folder(files: list[Path]) -> Generator[Image, None, None]:
    for index, file in enumerate(files):
        bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if bgr is None:
            raise InputError(f"{file}: cannot be read as an image")
        yield image_message(_rgb(bgr), round((index + 1) / FOLDER_RATE * NANOSECONDS))


def _video(path: Path) -> Source:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path}: neither a bag (.mcap, .db3, .bag) nor a video that OpenCV can read")
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0.1 < rate < 1000 else FOLDER_RATE
    count = max(0, round(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    return Source(
        path.stem, f"video of {count} frames at {rate:.4g} a second", VIDEO_TOPIC, False, count,
        _read_video(capture, rate),
    )  # fmt: skip


def _read_video(capture: cv2.VideoCapture, rate: float) -> Generator[Image, None, None]:
    index = 0
    while True:
        ok, bgr = capture.read()
        if not ok:
            return
        index += 1  # from 1: a stamp of 0 means "no stamp" in ROS
        yield image_message(_rgb(bgr), round(index / rate * NANOSECONDS))


def _rgb(bgr: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
