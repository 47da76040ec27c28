"""Depth at points of an image, and from it their places in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.camera_model import CameraModel

_ONE_SURFACE = 0.03
"""Depths that differ by less than this share belong to one surface: sensor noise and slant stay below, edges do not."""
_LEAST_VALID = 0.3
"""Share of the patch that needs a depth."""
_LEAST_AGREEING = 0.5
"""Share of the patch's depths that have to lie on the surface of the median."""
_LEAST_AGREEING_IN_HOLE = 0.8
"""The same where the point's own pixel has no depth, so that nothing says which surface is its own."""


@dataclass(frozen=True)
class DepthImage:
    """Distances along the optical axis, registered to the colour image.

    Attributes:
        values: (H, W) uint16 or float32; 0, NaN and infinite ones are missing.
        metres: what one unit of them is: 0.001 for millimetres.
    """

    values: NDArray[Any]
    metres: float = 1.0


def depth_at(
    depth: DepthImage, xy: ArrayLike, image_size: tuple[int, int] | None = None, radius: int = 2
) -> NDArray[np.float64]:
    """Depth in metres at points; NaN where it is missing or uncertain.

    It is the median of the surface a small patch around the point lies on. A point is uncertain, and gets none, if
    less than a third of its patch has a depth, if the depths belong to no one surface (an edge whose pixels mix
    foreground and background), or if the point's own pixel lies on another surface than most of its patch.

    Args:
        depth: the image.
        xy: (N, 2) x, y in pixels of the colour image.
        image_size: (height, width) of the colour image, where the depth image shows the same at another size.
        radius: of the patch, (2 radius + 1) pixels a side.
    """
    patches = _patches(depth, _scaled(xy, depth.values.shape, image_size), radius)
    if not len(patches):
        return np.zeros(0)
    own, size = patches[:, patches.shape[1] // 2], patches.shape[1]
    median = _median(patches)
    near = np.abs(patches - median[:, None]) <= _ONE_SURFACE * median[:, None]
    valid, agreeing = np.isfinite(patches).sum(axis=1), near.sum(axis=1)
    hole = np.isnan(own)
    certain = (valid >= _LEAST_VALID * size) & (hole | near[:, size // 2])
    certain &= agreeing >= np.where(hole, _LEAST_AGREEING_IN_HOLE, _LEAST_AGREEING) * valid
    surface = _median(np.where(near, patches, np.nan))
    return np.where(certain, surface, np.nan)


def points_in_space(camera: CameraModel, xy: ArrayLike, depth: ArrayLike) -> NDArray[np.float64]:
    """(N, 2) pixels and (N,) depths in metres -> (N, 3) x, y, z in metres in the camera's optical frame.

    NaN where there is no depth, or no ray.
    """
    z = np.asarray(depth, dtype=np.float64)
    rays = camera.rays(xy)
    points = np.concatenate((rays * z[:, None], z[:, None]), axis=1)
    points[np.isnan(points).any(axis=1)] = np.nan
    return points


def _scaled(xy: ArrayLike, depth_size: tuple[int, ...], image_size: tuple[int, int] | None) -> NDArray[np.float64]:
    """Pixels of the colour image as pixels of the depth image, with half-pixel centres."""
    pixels = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    if image_size is None or tuple(image_size) == tuple(depth_size):
        return pixels
    scale = np.array([depth_size[1] / image_size[1], depth_size[0] / image_size[0]])
    return (pixels + 0.5) * scale - 0.5


def _patches(depth: DepthImage, xy: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """(N, P) metres around each point, NaN where missing or outside; the middle one is the point's own pixel."""
    height, width = depth.values.shape
    centre = np.rint(np.clip(np.nan_to_num(xy, nan=-1e6), -1e6, 1e6)).astype(np.int64)
    offsets = np.arange(-radius, radius + 1)
    rows = centre[:, 1, None, None] + offsets[:, None]
    columns = centre[:, 0, None, None] + offsets
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    values = depth.values[rows.clip(0, height - 1), columns.clip(0, width - 1)].astype(np.float64) * depth.metres
    inside &= inside[:, radius, radius, None, None]
    known = np.where(inside & np.isfinite(values) & (values > 0), values, np.nan)
    return np.reshape(known, (len(xy), len(offsets) ** 2))


def _median(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each row's numbers, NaN in a row without; numpy's nanmedian warns of these and is slower."""
    ordered = np.sort(patches, axis=1)  # NaN last
    count = np.isfinite(patches).sum(axis=1)
    rows = np.arange(len(patches))
    lower, upper = ordered[rows, np.maximum(count - 1, 0) // 2], ordered[rows, count // 2 * (count > 0)]
    return (lower + upper) / 2
