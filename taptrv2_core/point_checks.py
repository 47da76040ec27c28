"""Points that are asked for: refused as a whole, in one line that names those that cannot be followed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.errors import PointError


def checked_points(xy: ArrayLike) -> NDArray[np.float64]:
    """(N, 2) x, y. Raises PointError: it is not that, or not finite."""
    try:
        points = np.asarray(xy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PointError(f"points must be pairs of numbers x, y: {error}") from error
    if points.size == 0:
        points = points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise PointError(f"points have shape {points.shape}; expected (N, 2): pairs x, y")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise PointError(f"points {shown(bad.tolist())} of the request have NaN or infinite coordinates")
    return points


def refuse_outside(points: NDArray[np.float64], size: tuple[int, int] | None, ids: list[int] | None = None) -> None:
    """Raises PointError of points (N, 2) outside an image of (height, width); None: outside of any.

    ``ids``: of points that were added before the first image, which has come now.
    """
    high = np.array([np.inf, np.inf] if size is None else [size[1] - 0.5, size[0] - 0.5])
    outside = np.flatnonzero(((points < -0.5) | (points > high)).any(axis=1)).tolist()
    if not outside:
        return
    x, y = points[outside[0]]
    image = "any image" if size is None else f"the image of {size[1]} x {size[0]} pixels"
    if ids is None:
        which = f"points {shown(outside)} of the request"
        raise PointError(f"{which} lie outside {image}, the first at ({x:g}, {y:g})")
    named = [ids[i] for i in outside]
    raise PointError(
        f"points with ids {shown(named)}, added before the first image, lie outside {image}, the first at "
        f"({x:g}, {y:g}): remove them and step again",
        named,
    )


def why_too_large(picture: tuple[int, ...], size: tuple[int, int], images: str) -> str:
    """Why a picture (height, width, ...) cannot be a reference among images of (height, width); "": it can.

    ``images``: what they are called.
    """
    if picture[0] <= size[0] and picture[1] <= size[1]:
        return ""
    return (
        f"is {picture[1]} x {picture[0]} pixels, larger than {images} of {size[1]} x {size[0]}: "
        "reduce it, or cut out a part, so that things are as large in it as in those"
    )


def shown(values: list[int], most: int = 8) -> str:
    """The first few of many."""
    text = ", ".join(str(v) for v in values[:most])
    return text if len(values) <= most else f"{text}, ... ({len(values)} in all)"
