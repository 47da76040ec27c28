"""Demo: a dense grid of points, and the ways they take, in the colours of the rainbow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.demos.final import final_tracks
from taptrv2_core.demos.source import Images
from taptrv2_core.drawing import DrawStyle, PointDrawer, rainbow
from taptrv2_core.encodings import RgbImage
from taptrv2_core.model import Taptr
from taptrv2_core.tracker import Tracker

STYLE = DrawStyle(radius=2.2, tail=24, tail_width=1.9, brightness=0.65, hidden=False, min_width=640)


def draw_rainbow(model: Taptr, source: Images, grid: int, style: DrawStyle = STYLE) -> Iterator[RgbImage]:
    """Every image of the source with the points and their tails.

    Args:
        model: from `load_model`.
        source: the images.
        grid: points along the image's longer side; all start in the first image.
        style: how they are drawn.
    """
    first = next(source.images)
    points = grid_points(first.shape[0], first.shape[1], grid)
    tracker = Tracker(model, max_points=len(points))
    ids = tracker.add_points(points)
    colours = rainbow(points[:, 1] / first.shape[0] * 0.85 + points[:, 0] / first.shape[1] * 0.15)
    drawer = PointDrawer(style)
    for image, tracks in final_tracks(tracker, itertools.chain((first,), source.images)):
        rows = np.searchsorted(ids, tracks.ids)
        yield drawer.draw(image, tracks.ids, tracks.xy, tracks.visible, colours[rows])


def grid_points(height: int, width: int, most: int) -> NDArray[np.float64]:
    """A square grid of points (N, 2), x, y in pixels, ``most`` along the image's longer side, in the middle of it."""
    step = max(height, width) / most

    def line(side: int) -> NDArray[Any]:
        count = max(1, int(side / step))
        return (np.arange(count) - (count - 1) / 2) * step + (side - 1) / 2

    return np.stack(np.meshgrid(line(width), line(height)), axis=-1).reshape(-1, 2)
