"""Points drawn on images: a disc where seen, a ring where hidden, with a tail of where it has been."""

from __future__ import annotations

import colorsys
from collections import defaultdict, deque
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_ros.demo.recorder import Points

TAIL = 14  # images
MIN_WIDTH = 640  # smaller images are enlarged before drawing
_SHIFT = 4  # OpenCV draws in sixteenths of a pixel
_GOLDEN = 0.618033988749895

Rgb = NDArray[np.uint8]


def colour(point: int) -> tuple[int, int, int]:
    """RGB of an id: neighbours differ, the same id is the same everywhere."""
    hue = (point * _GOLDEN) % 1.0
    value = 1.0 if point % 2 == 0 else 0.85
    r, g, b = colorsys.hsv_to_rgb(hue, 0.75, value)
    return round(255 * r), round(255 * g), round(255 * b)


class Overlay:
    """Draws one image after another and remembers the tails."""

    def __init__(self) -> None:
        self._tails: dict[int, deque[tuple[float, float, bool]]] = defaultdict(lambda: deque(maxlen=TAIL))

    def draw(self, image: Rgb, points: Points, caption: str) -> Rgb:
        """A copy of the image (H, W, 3) RGB with the points of it; enlarged by a whole number if it is small."""
        scale = max(1, -(-MIN_WIDTH // image.shape[1]) if image.shape[1] < MIN_WIDTH else 1)
        size = (image.shape[1] * scale, image.shape[0] * scale)
        enlarged = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if scale > 1 else image
        canvas = np.asarray(cv2.convertScaleAbs(enlarged, alpha=0.8), dtype=np.uint8)  # so that the points stand out
        unit = max(1.0, size[0] / 640)
        self._remember(points)
        layer = canvas.copy()
        for point in points.ids.tolist():
            self._draw_tail(layer, point, scale, unit)
        canvas = np.asarray(cv2.addWeighted(layer, 0.75, canvas, 0.25, 0), dtype=np.uint8)
        for point in points.ids.tolist():
            self._draw_point(canvas, point, scale, unit)
        _write(canvas, caption, unit)
        return canvas

    def _remember(self, points: Points) -> None:
        for point, (x, y), seen in zip(points.ids.tolist(), points.xy.tolist(), points.visible.tolist(), strict=True):
            self._tails[point].append((x, y, seen))
        for gone in set(self._tails) - set(points.ids.tolist()):
            del self._tails[gone]

    def _draw_tail(self, canvas: Rgb, point: int, scale: int, unit: float) -> None:
        tail = list(self._tails[point])
        for age, (start, end) in enumerate(pairwise(tail), start=TAIL - len(tail) + 1):
            if end[2]:  # nothing is known of the way of a hidden point
                width = max(1, round(2.2 * unit * age / TAIL))
                cv2.line(canvas, _at(start, scale), _at(end, scale), colour(point), width, cv2.LINE_AA, _SHIFT)

    def _draw_point(self, canvas: Rgb, point: int, scale: int, unit: float) -> None:
        x, y, seen = self._tails[point][-1]
        centre, radius = _at((x, y, seen), scale), round(4 * unit * (1 << _SHIFT))
        if seen:
            cv2.circle(canvas, centre, radius + (1 << _SHIFT), (0, 0, 0), -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(canvas, centre, radius, colour(point), -1, cv2.LINE_AA, _SHIFT)
        else:
            cv2.circle(canvas, centre, radius, colour(point), max(1, round(1.5 * unit)), cv2.LINE_AA, _SHIFT)


def _at(place: tuple[float, float, bool], scale: int) -> tuple[int, int]:
    """Pixels of the image -> sixteenths of pixels of the enlarged one (pixel centres are whole numbers in both)."""
    limit = 1 << 18  # OpenCV overflows on coordinates far outside
    x, y = ((c + 0.5) * scale - 0.5 for c in place[:2])
    return tuple(int(np.clip(round(c * (1 << _SHIFT)), -limit, limit)) for c in (x, y))  # type: ignore[return-value]


def _write(canvas: Rgb, caption: str, unit: float) -> None:
    """White on a darkened strip along the lower edge."""
    strip = canvas[-round(22 * unit) :]
    strip[:] = strip // 3
    place = (round(8 * unit), canvas.shape[0] - round(7 * unit))
    white = (255, 255, 255)
    cv2.putText(canvas, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42 * unit, white, max(1, round(unit)), cv2.LINE_AA)
