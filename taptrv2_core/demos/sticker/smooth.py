"""The way of a surface made smooth, and bridged where it was out of sight."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.demos.sticker.warp import Placement

_KERNEL = np.array([-2, 3, 6, 7, 6, 3, -2], np.float64) / 21  # Savitzky and Golay 1964: parabola through 7 places


def smooth_warps(placements: list[Placement], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Warps (T, 3, 3): the corners' ways (of the reference's box (4, 2)), smoothed over 7 images.

    Where a placement is not sure, the corners go straight from where they were last to where they are next.
    """
    corner_ways = np.stack([cv2.perspectiveTransform(corners[None], p.warp)[0] for p in placements]).reshape(-1, 8)
    sure = np.flatnonzero([p.sure for p in placements])
    frames = np.arange(len(corner_ways))
    ways: NDArray[Any] = np.stack([np.interp(frames, sure, way[sure]) for way in corner_ways.T], axis=-1)
    reach = len(_KERNEL) // 2
    if len(ways) > reach:
        padded = np.pad(ways, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
        ways = np.stack([np.convolve(way, _KERNEL, mode="valid") for way in padded.T], axis=-1)
    source = corners.astype(np.float32)
    warps = [cv2.getPerspectiveTransform(source, way.reshape(4, 2).astype(np.float32)) for way in ways]
    return np.stack(warps).astype(np.float64)
