"""Points inside a box or polygon of an image, evenly spread and the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.errors import PointError

Points = NDArray[np.float64]
_MOST_VERTICES = 1000
_LEAST_PLACES, _PLACES_A_POINT = 8192, 48  # of the grid by which a region is shared out among its points
_FINEST = 1 << 20  # places looked at before a region counts as too thin
_RELAXATIONS = 10


@dataclass(frozen=True)
class _Grid:
    """A square grid over a region's box; places are (2, N) row and column."""

    origin: Points
    """(2,) x, y of the first place."""
    spacing: float
    mask: NDArray[np.bool_]
    """(H, W), which places are in the region."""

    def pixels(self, places: NDArray[Any]) -> Points:
        """(N, 2) x, y."""
        return self.origin + self.spacing * places[::-1].T


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
    grid = _grid(outline, low, high, spacing)
    points = grid.pixels(np.array(np.nonzero(grid.mask)))
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
    grid = _fine_grid(outline, low, high, max(_LEAST_PLACES, _PLACES_A_POINT * count))
    places, area = np.array(np.nonzero(grid.mask)), grid.mask.mean() * float(np.prod(high - low))
    if count > max(area, 1.0) or count > places.shape[1]:
        raise PointError(f"the region covers {area:.0f} pixels of the image, too few for {count} points")
    middles, nearest = _middles(places, _strips(places, count), count)
    for _ in range(_RELAXATIONS):  # each point to the middle of the places nearest to it: even, and off the outline
        middles, nearest = _middles(places, _owners(grid.mask, places[:, nearest]), count)
    points = grid.pixels(middles)
    beside = ~inside(outline, points)  # the middle of a crescent is not in it
    points[beside] = grid.pixels(places[:, nearest[beside]])
    return points


def _fine_grid(outline: Points, low: Points, high: Points, least: int) -> _Grid:
    """With ``least`` places in the region or more, unless that is too thin."""
    box = float(np.prod(high - low))
    total = 1.5 * least
    while True:
        grid = _grid(outline, low, high, float(np.sqrt(box / total)))
        found = np.count_nonzero(grid.mask)
        if found >= least or total >= _FINEST:
            break
        total = min(_FINEST, 1.2 * total * least / max(1, found))
    if not found:
        raise PointError("the region has no area inside the image")
    return grid


def _strips(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Cuts (2, N) places, row and column, into ``count`` pieces of one size; which piece each is in, (N,).

    Along strips of rows, to the right and to the left in turn, so that pieces are about squares.
    """
    number = places.shape[1]
    rows = places[0] - places[0, 0]
    strips = max(1, round((rows[-1] + 1) / np.sqrt(number / count)))
    strip = rows * strips // (rows[-1] + 1)
    order = np.lexsort((np.where(strip % 2, -places[1], places[1]), strip))
    owners = np.empty(number, dtype=np.int64)
    owners[order] = np.arange(number) * count // number
    return owners


def _middles(
    places: NDArray[np.int64], owners: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each owner's places the middle, (2, count), and which of them is nearest to it, (count,)."""
    number = np.bincount(owners, minlength=count)
    middles = np.stack([np.bincount(owners, along, count) / number for along in places])
    distance = ((places - middles[:, owners]) ** 2).sum(axis=0)
    least = np.full(count, np.inf)
    np.minimum.at(least, owners, distance)
    candidates = np.flatnonzero(distance == least[owners])
    nearest = np.empty(count, dtype=np.int64)
    nearest[owners[candidates]] = candidates
    return middles, nearest


def _owners(mask: NDArray[np.bool_], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Gives each place of the (H, W) mask to that of the chosen places, row and column, that is nearest to it."""
    image = np.full(mask.shape, 255, dtype=np.uint8)
    image[tuple(chosen)] = 0
    labels = cv2.distanceTransformWithLabels(image, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    return labels[mask].astype(np.int64) - 1


def _grid(outline: Points, low: Points, high: Points, spacing: float) -> _Grid:
    """Rows and columns in the middle of the box; which places are in the region by the rule of `inside`."""
    x, y = (_line(a, b, spacing) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    (x0, y0), (x1, y1) = outline.T, np.roll(outline, -1, axis=0).T
    edge, row = np.nonzero((y0[:, None] > y) != (y1[:, None] > y))
    crossing = x0[edge] + (y[row] - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    before = row * (len(x) + 1) + np.searchsorted(x, crossing)  # so many of the row's places lie left of the crossing
    crossings = np.bincount(before, minlength=len(y) * (len(x) + 1)).reshape(len(y), -1)
    mask = np.cumsum(crossings[:, :0:-1], axis=1)[:, ::-1] % 2 == 1
    return _Grid(np.array([x[0], y[0]]), spacing, mask)


def _line(low: float, high: float, spacing: float) -> NDArray[np.float64]:
    steps = int(np.floor((high - low) / spacing))
    margin = (high - low - steps * spacing) / 2
    if steps and margin < 0.25 * spacing:  # off the outline, where a point would sit half on what is behind
        steps, margin = steps - 1, margin + spacing / 2
    return low + margin + spacing * np.arange(steps + 1, dtype=np.float64)


def _ordered(points: Points) -> Points:
    return points[np.lexsort((points[:, 0], points[:, 1]))]
