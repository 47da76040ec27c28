"""Points inside a box or polygon of an image, evenly spread and the same every time."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.errors import PointError

Points = NDArray[np.float64]
_MOST_VERTICES = 1000
_CANDIDATES = 4096  # places a region offers at least, of which those for the points are chosen
_FINEST = 1 << 20  # places looked at before a region counts as too thin
_RELAXATIONS = 10


def points_in_region(
    vertices: ArrayLike,
    image_size: tuple[int, int],
    *,
    count: int = 0,
    spacing: float = 0.0,
    most: int = 100_000,
) -> Points:
    """Points spread over a region, by number or by the distance between neighbours.

    Args:
        vertices: (K, 2) x, y in pixels. Two are opposite corners of an upright box, three or more a polygon, in order
            along its outline; where the outline crosses itself the even-odd rule says what is inside.
        image_size: (height, width). What lies outside the image is left out.
        count: how many points; exactly so many come back.
        spacing: pixels between the rows and columns of a square grid. Give either this or ``count``.
        most: more points than this are refused.

    Returns:
        (N, 2) x, y in pixels, top to bottom, all inside the region and the image.

    Raises:
        PointError: fewer than two vertices, NaN, a region without area, one that lies outside the image, neither or
            both of count and spacing, more points than ``most`` or than the region has room for (a pixel each), or a
            spacing at which no point falls into it.
    """
    outline = _outline(vertices)
    low, high = _clipped_bounds(outline, image_size)
    if (count != 0) == (spacing != 0):
        raise PointError("give either the number of points or their spacing in pixels, and leave the other 0")
    if count:
        return _ordered(_by_count(outline, low, high, count, most))
    return _ordered(_by_spacing(outline, low, high, spacing, most))


def inside(outline: Points, points: Points) -> NDArray[np.bool_]:
    """Which of the (N, 2) points lie inside the (K, 2) polygon, by the even-odd rule."""
    result = np.zeros(len(points), dtype=bool)
    x, y = points.T
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            result ^= crosses & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return result


def _outline(vertices: ArrayLike) -> Points:
    """The polygon, (K, 2)."""
    outline = np.asarray(vertices, dtype=np.float64)
    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 2:
        raise PointError(
            f"a region needs x, y of two opposite corners of a box or of three or more vertices of a polygon; got an "
            f"array of shape {outline.shape}"
        )
    if len(outline) > _MOST_VERTICES:
        raise PointError(f"the region has {len(outline)} vertices; at most {_MOST_VERTICES}")
    if not np.isfinite(outline).all():
        raise PointError("vertices of the region are NaN or infinite")
    if len(outline) == 2:
        (x0, y0), (x1, y1) = outline
        outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    width, height = np.ptp(outline, axis=0)
    edges = np.roll(outline, -1, axis=0) - outline
    longest = edges[np.argmax(np.hypot(*edges.T))]
    across = (outline - outline[0]) @ np.array([-longest[1], longest[0]]) / max(float(np.hypot(*longest)), 1e-12)
    if min(width, height) < 1 or np.ptp(across) < 1:
        raise PointError(f"the region is {width:g} x {height:g} pixels and has no area: it is a line or a point")
    return outline


def _clipped_bounds(outline: Points, image_size: tuple[int, int]) -> tuple[Points, Points]:
    """Lower and upper x, y of the part of the region's surrounding box that lies in the image."""
    height, width = image_size
    low = np.maximum(outline.min(axis=0), -0.5)
    high = np.minimum(outline.max(axis=0), (width - 0.5, height - 0.5))
    if (high <= low).any():
        (x0, y0), (x1, y1) = outline.min(axis=0), outline.max(axis=0)
        raise PointError(
            f"region x {x0:g} to {x1:g} and y {y0:g} to {y1:g}, lies outside the image of {width} x {height} pixels"
        )
    return low, high


def _by_spacing(outline: Points, low: Points, high: Points, spacing: float, most: int) -> Points:
    if not (np.isfinite(spacing) and spacing >= 1):
        raise PointError(f"a spacing of {spacing:g} pixels cannot be used; it must be 1 or more")
    columns, rows = np.floor((high - low) / spacing) + 1
    if columns * rows > _FINEST:
        raise PointError(f"a spacing of {spacing:g} pixels gives about {columns * rows:.0f} points; at most {most}")
    places = _grid(low, high, spacing)
    points = places[inside(outline, places)]
    if len(points) > most:
        raise PointError(f"a spacing of {spacing:g} pixels gives {len(points)} points in this region; at most {most}")
    if not len(points):
        raise PointError(f"at a spacing of {spacing:g} pixels no point falls into the region; use a smaller one")
    return points


def _by_count(outline: Points, low: Points, high: Points, count: int, most: int) -> Points:
    if count < 0:
        raise PointError(f"{count} points cannot be spread over a region; give 1 or more")
    if count > most:
        raise PointError(f"{count} points were asked for in the region; at most {most}")
    places, area = _places(outline, low, high, max(_CANDIDATES, 8 * count))
    if count > max(area, 1.0) or count > len(places):
        raise PointError(f"the region covers {area:.0f} pixels of the image, too few for {count} points")
    labels = _farthest(places, count)
    if count == 1:
        centres = places.mean(axis=0, keepdims=True)
    else:  # each point to the middle of the places nearest to it, again and again: evenly spread, off the outline
        criteria = (cv2.TERM_CRITERIA_MAX_ITER, _RELAXATIONS, 0.0)
        samples = places.astype(np.float32)
        _, _, found = cv2.kmeans(samples, count, labels, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)
        centres = np.asarray(found, dtype=np.float64)
    for row in np.flatnonzero(~inside(outline, centres)):  # the middle of a crescent is not in it
        centres[row] = places[np.argmin(((places - centres[row]) ** 2).sum(axis=1))]
    return centres


def _places(outline: Points, low: Points, high: Points, least: int) -> tuple[Points, float]:
    """At least ``least`` places inside, on a fine grid, and the area they stand for, in pixels."""
    box = float(np.prod(high - low))
    total = 2.0 * least
    while True:
        grid = _grid(low, high, float(np.sqrt(box / total)))
        found = grid[inside(outline, grid)]
        if len(found) >= least or total >= _FINEST:
            break
        total = min(_FINEST, 1.2 * total * least / max(1, len(found)))
    if not len(found):
        raise PointError("the region has no area inside the image")
    return found, len(found) / len(grid) * box


def _farthest(places: Points, count: int) -> NDArray[np.int32]:
    """Spreads ``count`` points over the places, each as far as can be from those before; which is nearest to each."""
    nearest = np.zeros(len(places), dtype=np.int32)
    distance = ((places - places.mean(axis=0)) ** 2).sum(axis=1)
    distance = ((places - places[np.argmin(distance)]) ** 2).sum(axis=1)
    for label in range(1, count):
        from_new = ((places - places[np.argmax(distance)]) ** 2).sum(axis=1)
        closer = from_new < distance
        nearest[closer] = label
        np.minimum(distance, from_new, out=distance)
    return nearest


def _grid(low: Points, high: Points, spacing: float) -> Points:
    """Rows and columns in the middle of the box, (N, 2)."""
    x, y = (_line(a, b, spacing) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _line(low: float, high: float, spacing: float) -> NDArray[np.float64]:
    steps = int(np.floor((high - low) / spacing))
    margin = (high - low - steps * spacing) / 2
    if steps and margin < 0.25 * spacing:  # off the outline, where a point would sit half on what is behind
        steps, margin = steps - 1, margin + spacing / 2
    return low + margin + spacing * np.arange(steps + 1, dtype=np.float64)


def _ordered(points: Points) -> Points:
    return points[np.lexsort((points[:, 0], points[:, 1]))]
