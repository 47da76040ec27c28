"""Which points to track in a recording without instructions: corners, spread over the image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def spread_corners(image: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """Up to ``count`` Shi-Tomasi corners of an (H, W, 3) RGB image, (N, 2) pixels x, y, as far apart as they can be.

    A grid of points where the image has no corners at all.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    distance = 0.9 * float(np.sqrt(height * width / count))
    corners = None
    while distance >= 2:  # the largest spacing that still finds enough of them
        corners = cv2.goodFeaturesToTrack(grey, count, 0.005, distance)
        if corners is not None and len(corners) >= count:
            break
        distance *= 0.75
    if corners is None:
        return _grid(height, width, count)
    return np.asarray(corners, dtype=np.float32).reshape(-1, 2)


def _grid(height: int, width: int, count: int) -> NDArray[np.float32]:
    columns = max(1, round(np.sqrt(count * width / height)))
    rows = max(1, count // columns)
    x = (np.arange(columns) + 0.5) * width / columns - 0.5
    y = (np.arange(rows) + 0.5) * height / rows - 0.5
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)[:count]
