"""What tests of ``taptr track`` begin with: a folder of images; and how they read its table."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
from camera_process import camera_image


def street(folder: Path) -> Path:
    """14 PNG files of 128 x 96 pixels in a folder."""
    for index in range(14):
        cv2.imwrite(str(folder / f"{index}.png"), camera_image(index, 96, 128)[..., ::-1])
    return folder


def table_of(path: Path) -> list[dict[str, str]]:
    """Rows of a ``tracks.csv``."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
