"""Video files and folders of images, read with OpenCV."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.encodings import CompressedImage, RawImage
from taptrv2_core.errors import RecordingError
from taptrv2_core.recordings.recording import NANOSECONDS, Frame, Recording

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
TOPIC = "/camera/image_raw"
FOLDER_RATE = 20.0  # images a second, where the files do not say
_INEXACT = 0.05  # share by which a container's number of frames, some estimate it, may be too high


def open_folder(path: Path) -> Recording:
    """The image files of a folder, in the order of their names (numbers in them by value)."""
    files = sorted((f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES), key=_natural)
    if not files:
        raise RecordingError(f"{path}: a folder with neither a bag (metadata.yaml, .mcap, .db3, .bag) nor images in it")
    description = f"{len(files)} image files, played at {FOLDER_RATE:g} a second"
    frames = _read_folder(files)
    return Recording(
        path.resolve().name, description, TOPIC, is_bag=False, compressed=False, count=len(files), frames=frames
    )


def open_video(path: Path) -> Recording:
    """A video file in any form that OpenCV reads."""
    if path.stat().st_size == 0:
        raise RecordingError(f"{path}: the file is empty (0 bytes)")
    os.environ.setdefault(
        "OPENCV_FFMPEG_LOGLEVEL", "-8"
    )  # FFmpeg's remarks on damaged files: what matters is said here
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise RecordingError(f"{path}: neither a bag (.mcap, .db3, .bag) nor a video that OpenCV can read")
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0.1 < rate < 1000 else FOLDER_RATE
    count = max(0, round(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    description = f"video of {count} frames at {rate:.4g} a second"
    files = ExitStack()
    files.callback(capture.release)
    frames = _read_video(path, capture, rate, count, files)
    return Recording(
        path.stem, description, TOPIC, is_bag=False, compressed=False, count=count, frames=frames, files=files
    )


def _natural(file: Path) -> list[Any]:
    parts = re.split(r"(\d+)", file.name)
    return [(int(p), p) if p.isdigit() else p for p in parts]


def _read_folder(files: list[Path]) -> Generator[Frame, None, None]:
    for index, file in enumerate(files):
        bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
        yield _damaged(file, index) if bgr is None else _frame(bgr, index, FOLDER_RATE)


def _read_video(
    path: Path, capture: cv2.VideoCapture, rate: float, count: int, files: ExitStack
) -> Generator[Frame, None, None]:
    index = 0
    with files:
        while True:
            ok, bgr = capture.read()
            if not ok:
                break
            yield _frame(bgr, index, rate)
            index += 1
    if index == 0:
        raise RecordingError(f"{path}: no frame of this video can be read; it is empty or damaged")
    if index < (1 - _INEXACT) * count - 1:
        raise RecordingError(f"{path}: ends after {index} of {count} frames: cut short or damaged there")


def _frame(bgr: NDArray[Any], index: int, rate: float) -> Frame:
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    height, width = rgb.shape[:2]
    return _stamped(RawImage(rgb.reshape(-1), "rgb8", height, width, 3 * width), index, rate)


def _damaged(file: Path, index: int) -> Frame:
    """A file that is no image: the frame's ``rgb`` says so, and the files after it are read."""
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise RecordingError(f"{file}: cannot be read: {error.strerror}") from error
    return _stamped(CompressedImage(data, file.name), index, FOLDER_RATE)


def _stamped(image: RawImage | CompressedImage, index: int, rate: float) -> Frame:
    stamp = round((index + 1) / rate * NANOSECONDS)  # from 1: a stamp of 0 means "no stamp" in ROS
    return Frame(stamp, stamp, "camera", image)
