"""Whether the places at which points of one picture were found, each by itself, agree: seen from elsewhere they move
together, turned and nearer or farther as a whole, give or take what depth and bending do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.05
"""Of the points' spread, by which a place may be beside where the others say."""
LEAST_TOLERANCE = 4 / 256
"""Of the image's longer side, likewise."""
TURNED = 35.0
"""Degrees by which a consensus may be turned against the view in which it was found."""
SCALED = 1.75
"""Times that it may be as large, or as small."""

Warp = NDArray[np.float64]
"""(2, 3), from pixels of a picture to those of an image: turned, scaled and moved."""


@dataclass(frozen=True)
class Consensus:
    """What most of the places say.

    Attributes:
        warp: from the picture to the image.
        weight: in [0, 1], how likely it is that a point is at a place that agrees, on average.
        tolerance: pixels within which a place agrees.
    """

    warp: Warp
    weight: float
    tolerance: float


def moved(warp: Warp, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 2) by a warp."""
    return np.asarray(xy @ warp[:, :2].T + warp[:, 2])


def turn_and_scale(warp: Warp) -> tuple[float, float]:
    """Degrees against the clock, and how many times as large."""
    return float(np.degrees(np.arctan2(warp[0, 1], warp[0, 0]))), float(np.hypot(warp[0, 0], warp[1, 0]))


def alike(warp: Warp, other: Warp, degrees: float, times: float) -> bool:
    """Whether two are turned and scaled nearly the same."""
    (turn, scale), (turn_there, scale_there) = turn_and_scale(warp), turn_and_scale(other)
    aside = (turn - turn_there + 180) % 360 - 180
    return abs(aside) <= degrees and 1 / times <= scale / max(scale_there, 1e-9) <= times


def agreed(
    xy: NDArray[np.float64], found: NDArray[np.float64], likely: NDArray[np.float64], drawn: Warp, longest: int
) -> Consensus | None:
    """The warp that agrees with most places; None if there is none near the one with which the view was drawn.

    The same places give the same warp: OpenCV's RANSAC begins with the same random numbers in every call.

    Args:
        xy: (N, 2) points of the picture.
        found: (N, 2) x, y where they were found in the image, in pixels.
        likely: (N,) probability of each place.
        drawn: from the picture to the view in which they were sought.
        longest: the image's longer side, in pixels.
    """
    import cv2

    if len(xy) == 0:
        return None
    spread = turn_and_scale(drawn)[1] * float(np.sqrt(xy.var(axis=0).sum()))
    tolerance = max(TOLERANCE * spread, LEAST_TOLERANCE * longest)
    if len(xy) == 1:
        warp = np.column_stack((drawn[:, :2], found[0] - drawn[:, :2] @ xy[0]))
    else:
        fitted, _ = cv2.estimateAffinePartial2D(
            xy.astype(np.float32), found.astype(np.float32), method=cv2.RANSAC,
            ransacReprojThreshold=tolerance, maxIters=500, confidence=0.99,
        )  # fmt: skip
        if fitted is None:
            return None
        warp = np.asarray(fitted, np.float64)
        if not alike(warp, drawn, TURNED, SCALED):
            return None
    near = np.linalg.norm(moved(warp, xy) - found, axis=1) < tolerance
    return Consensus(warp, float((near * likely).sum() / len(xy)), tolerance)
