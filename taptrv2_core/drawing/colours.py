"""Colours of points."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = 0.618033988749895


def point_colours(ids: ArrayLike) -> NDArray[np.uint8]:
    """RGB (N, 3) of points by their ids (N,): neighbouring ids differ, the same id is the same everywhere."""
    numbers = np.asarray(ids, dtype=np.int64).reshape(-1)
    value = np.where(numbers % 2 == 0, 255, 217)
    return _rgb(numbers * _GOLDEN % 1.0, 0.75, value)


def rainbow(values: ArrayLike) -> NDArray[np.uint8]:
    """RGB (N, 3) of numbers (N,) in [0, 1]: from red through green and blue to violet."""
    return _rgb(np.clip(np.asarray(values, dtype=np.float64).reshape(-1), 0, 1) * 0.83, 0.85, 255)


def _rgb(hue: NDArray[Any], saturation: float, value: ArrayLike) -> NDArray[np.uint8]:
    if not len(hue):
        return np.zeros((0, 3), np.uint8)
    hsv = np.empty((1, len(hue), 3), np.uint8)
    hsv[0, :, 0] = np.round(hue * 255)
    hsv[0, :, 1] = round(255 * saturation)
    hsv[0, :, 2] = value
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), dtype=np.uint8)[0]
