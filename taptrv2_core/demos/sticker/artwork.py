"""The image that is put on the surface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Rgba = NDArray[np.uint8]
_SIDE = 512


def load_artwork(path: Path) -> Rgba:
    """An image file as (H, W, 4) uint8 RGBA; opaque if it has no alpha. Raises ValueError: not an image."""
    bgra = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if bgra is None:
        raise ValueError(f"{path}: {'cannot be read as an image' if path.is_file() else 'no such file'}")
    if bgra.dtype == np.uint16:
        bgra = cv2.convertScaleAbs(bgra, alpha=255.0 / 65535.0)
    if bgra.dtype != np.uint8:
        raise ValueError(f"{path}: an image of {bgra.dtype}; expected 8 or 16 bits a channel")
    code = {2: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_BGR2RGBA, 4: cv2.COLOR_BGRA2RGBA}
    return np.asarray(cv2.cvtColor(bgra, code[bgra.ndim if bgra.ndim == 2 else bgra.shape[2]]), dtype=np.uint8)


def own_artwork() -> Rgba:
    """A sticker of this project's own: a face on a disc with a white border, (512, 512, 4)."""
    rgba = np.zeros((_SIDE, _SIDE, 4), np.uint8)
    middle, ink = (_SIDE // 2, _SIDE // 2), (45, 32, 20, 255)

    def disc(centre: tuple[int, int], radius: int, colour: Any) -> None:
        cv2.circle(rgba, centre, radius, colour, -1, cv2.LINE_AA)

    disc(middle, 250, (255, 255, 255, 255))
    disc(middle, 226, (255, 205, 40, 255))
    disc((256, 250), 208, (255, 222, 84, 255))
    for x in (178, 334):
        cv2.ellipse(rgba, (x, 200), (28, 44), 0, 0, 360, ink, -1, cv2.LINE_AA)
        disc((x - 8, 184), 10, (255, 255, 255, 255))
    cv2.ellipse(rgba, (256, 292), (112, 92), 0, 0, 180, ink, -1, cv2.LINE_AA)
    cv2.line(rgba, (144, 292), (368, 292), ink, 14, cv2.LINE_AA)
    cv2.ellipse(rgba, (256, 372), (62, 30), 0, 180, 360, (232, 74, 88, 255), -1, cv2.LINE_AA)
    return rgba
