"""What tests of ``taptr track`` begin with: images, decoded or in a folder; and how they read its table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
from camera_process import camera_image

from taptrv2_core.encodings import RawImage
from taptrv2_core.recordings import Frame
from taptrv2_core.tracking_run.following import DecodedFrame

HEIGHT, WIDTH = 64, 64  # the tiny network's own size


def decoded(count: int) -> Iterator[DecodedFrame]:
    for index in range(count):
        image = camera_image(index, HEIGHT, WIDTH)
        stamp = (index + 1) * 100_000_000
        source = Frame(stamp, stamp, "camera", RawImage(image.reshape(-1), "rgb8", HEIGHT, WIDTH, 3 * WIDTH))
        yield DecodedFrame(index, source, image)


def street(folder: Path) -> Path:
    """14 PNG files of 128 x 96 pixels in a folder."""
    for index in range(14):
        cv2.imwrite(str(folder / f"{index}.png"), camera_image(index, 96, 128)[..., ::-1])
    return folder


def table_of(path: Path) -> list[dict[str, str]]:
    """Rows of a ``tracks.csv``."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
