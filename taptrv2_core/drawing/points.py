"""Points drawn on images: a disc where seen, a ring where hidden, with a tail of where each has been."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.drawing.colours import point_colours

Rgb = NDArray[np.uint8]
REFERENCE_WIDTH = 640
"""Sizes of a style are in pixels of an image this wide; in wider ones everything grows alike."""
_SHIFT = 4  # OpenCV draws in sixteenths of a pixel
_LIMIT = 1 << 18  # and overflows on coordinates far outside
_BANDS = 2  # parts of a tail, each wider and brighter than the older one
_FADE = 0.5  # of the colour, from the newest part to the beginning
_TAIL = 0.75  # opacity
_RING_STEP = 12  # sixteenths of a pixel


@dataclass(frozen=True)
class DrawStyle:
    """How points look. Lengths in pixels of an image 640 wide."""

    radius: float = 4.0
    tail: int = 14
    """Images a tail reaches back; 0: no tails."""
    tail_width: float = 2.0
    brightness: float = 0.8
    """Of the image, in (0, 1]: darker, so that the points stand out."""
    labels: bool = False
    """Write each point's id beside it."""
    hidden: bool = True
    """Draw rings where hidden points are thought to be."""
    min_width: int = 0
    """Smaller images are enlarged by a whole number to at least this width; 0: they are not."""
    max_width: int = 0
    """Larger images are reduced to this width; 0: they are not."""

    def __post_init__(self) -> None:
        if self.radius <= 0 or self.tail < 0 or self.tail_width <= 0 or not 0 < self.brightness <= 1:
            raise ValueError(f"{self}: radius and tail_width must be above 0, tail at least 0, brightness in (0, 1]")

    def picture_size(self, image: Rgb) -> tuple[int, int]:
        """(width, height) of the picture of an image; of reduced ones the height is even, as H.264 needs it."""
        height, width = image.shape[:2]
        if self.max_width and width > self.max_width:
            return self.max_width, max(2, 2 * round(height * self.max_width / width / 2))
        scale = max(1, -(-self.min_width // width))
        return scale * width, scale * height


def background(image: Rgb, style: DrawStyle, into: Rgb | None = None) -> Rgb:
    """What lies behind the points: an image (H, W, 3), never itself, in the size and brightness of the style; in an
    array that has this size already, if one is given."""
    resized = _resized(image, style.picture_size(image), into)
    if style.brightness == 1 and resized is not image:
        return resized
    target = into if resized is image else resized
    return np.asarray(cv2.convertScaleAbs(resized, target, alpha=style.brightness), dtype=np.uint8)


class PointDrawer:
    """Draws one image after another and remembers the tails."""

    def __init__(self, style: DrawStyle | None = None) -> None:
        self.style = style or DrawStyle()
        self.reset()

    def reset(self) -> None:
        """Forget the tails: the next image does not follow the last."""
        self._ids = np.zeros(0, np.int64)
        self._xy = np.zeros((self.style.tail + 1, 0, 2), np.float32)
        self._seen = np.zeros((self.style.tail + 1, 0), bool)

    def draw(
        self, image: Rgb, ids: ArrayLike, xy: ArrayLike, visible: ArrayLike, colours: NDArray[np.uint8] | None = None
    ) -> Rgb:
        """A copy of the next image with the points in it.

        Args:
            image: (H, W, 3) uint8 RGB.
            ids: (N,) of the points, each at most once.
            xy: (N, 2) pixels x, y; may lie outside. Points that are not finite are left out.
            visible: (N,) bool.
            colours: (N, 3) RGB; None: by id, as `point_colours` gives them.
        """
        return self.draw_on(background(image, self.style), image.shape[:2], ids, xy, visible, colours)

    def draw_on(
        self, canvas: Rgb, image_size: tuple[int, ...], ids: ArrayLike, xy: ArrayLike, visible: ArrayLike,
        colours: NDArray[np.uint8] | None = None,
    ) -> Rgb:  # fmt: skip
        """Like `draw`, where what lies behind the points, the `background` of an image of (height, width), is made
        already. It is drawn into."""
        self._remember(ids, xy, visible)
        palette = point_colours(self._ids) if colours is None else np.asarray(colours, dtype=np.uint8)
        size = canvas.shape[1::-1]
        unit = max(0.5, size[0] / REFERENCE_WIDTH)
        places = _fixed_point(self._xy, np.array(size) / image_size[::-1])
        if self.style.tail:
            canvas = self._draw_tails(canvas, places, palette, unit)
        self._draw_points(canvas, places[-1], palette.tolist(), unit)
        return canvas

    def _remember(self, ids: ArrayLike, xy: ArrayLike, visible: ArrayLike) -> None:
        """The history moves one image on; its columns become those of ``ids``."""
        numbers = np.asarray(ids, dtype=np.int64).reshape(-1)
        history = np.full((len(self._xy), len(numbers), 2), np.nan, np.float32)
        seen = np.zeros(history.shape[:2], bool)
        new: Any = slice(None)
        old: Any = new
        if not np.array_equal(numbers, self._ids):
            _, new, old = np.intersect1d(numbers, self._ids, assume_unique=True, return_indices=True)
        history[:-1, new], seen[:-1, new] = self._xy[1:, old], self._seen[1:, old]
        history[-1] = np.asarray(xy, dtype=np.float32).reshape(-1, 2)
        seen[-1] = np.asarray(visible, dtype=bool).reshape(-1) & np.isfinite(history[-1]).all(axis=-1)
        self._ids, self._xy, self._seen = numbers, history, seen

    def _draw_tails(self, canvas: Rgb, places: NDArray[np.int32], palette: NDArray[np.uint8], unit: float) -> Rgb:
        """Oldest parts first, the thinnest and darkest; all are blended with the image at once, which costs most."""
        known: NDArray[np.bool_] = self._seen[1:] & self._seen[:-1]
        # What lies under a point's own disc is left out: points that hardly move would cost as much as others.
        outside = _either(np.abs(places - places[-1]) > self.style.radius * unit * (1 << _SHIFT))
        shown = known & (outside[1:] | outside[:-1] | (~self._seen[-1] & _either(places[1:] != places[:-1])))
        tracks = np.ascontiguousarray(places.swapaxes(0, 1))  # (N, tail + 1, 2)
        layer = canvas.copy()
        edges = [round(self.style.tail * band / _BANDS) for band in range(_BANDS + 1)]
        for band, (first, last) in enumerate(pairwise(edges), start=1):
            width = max(1, round(self.style.tail_width * unit * band / _BANDS))
            smooth = cv2.LINE_AA if width == 1 else cv2.LINE_8  # smooth wide lines take three times as long
            colours = np.rint(palette * (1 - _FADE * (1 - band / _BANDS))).tolist()
            steps = shown[first:last]
            whole: NDArray[np.bool_] = np.all(known[first:last], axis=0)
            for point in np.flatnonzero(steps.any(axis=0)).tolist():
                lines = [tracks[point, first : last + 1]]
                if not whole[point]:
                    lines = [tracks[point, i : i + 2] for i in (first + np.flatnonzero(steps[:, point])).tolist()]
                cv2.polylines(layer, lines, False, colours[point], width, smooth, _SHIFT)
        return np.asarray(cv2.addWeighted(layer, _TAIL, canvas, 1 - _TAIL, 0, dst=layer), dtype=np.uint8)

    def _draw_points(self, canvas: Rgb, places: NDArray[np.int32], palette: list[Any], unit: float) -> None:
        style, one = self.style, 1 << _SHIFT
        radius, width = round(style.radius * unit * one), max(1, round(1.5 * unit))
        # Thin ones side by side: OpenCV's smooth lines of two pixels are four wide, and take three times as long.
        rings = [radius + _RING_STEP * (2 * i - width + 1) // 2 for i in range(width)]
        drawn = np.flatnonzero(np.isfinite(self._xy[-1]).all(axis=-1))
        # Hidden ones first: a ring never covers a point that is seen.
        for point in drawn[np.argsort(self._seen[-1, drawn], kind="stable")].tolist():
            centre = places[point].tolist()
            if self._seen[-1, point]:
                cv2.circle(canvas, centre, radius + one, (0, 0, 0), -1, cv2.LINE_AA, _SHIFT)
                cv2.circle(canvas, centre, radius, palette[point], -1, cv2.LINE_AA, _SHIFT)
            elif style.hidden:
                for ring in rings:
                    cv2.circle(canvas, centre, ring, palette[point], 1, cv2.LINE_AA, _SHIFT)
            if style.labels and (self._seen[-1, point] or style.hidden):
                corner = (centre[0] + 2 * radius >> _SHIFT, centre[1] - radius >> _SHIFT)
                _text(canvas, str(self._ids[point]), corner, 0.36 * unit, palette[point])


def write_caption(picture: Rgb, text: str) -> None:
    """Write white text on a darkened strip along the lower edge of a picture (H, W, 3), in place."""
    unit = max(1.0, picture.shape[1] / REFERENCE_WIDTH)
    strip = picture[-round(22 * unit) :]
    strip[:] = strip // 3
    _text(picture, text, (round(8 * unit), picture.shape[0] - round(7 * unit)), 0.42 * unit, (255, 255, 255))


def _text(picture: Rgb, text: str, corner: tuple[int, int], size: float, colour: Any) -> None:
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, colour, max(1, round(2.4 * size)), cv2.LINE_AA)


def _resized(image: Rgb, size: tuple[int, int], into: Rgb | None = None) -> Rgb:
    """The image itself where it has that (width, height)."""
    width, height = image.shape[1], image.shape[0]
    if size == (width, height):
        return image
    enlarged, step = size[0] > width, width // size[0]
    # Averaging over whole pixels, and then what is left between the nearest, is five times as fast as averaging alone.
    if step > 1:
        image = np.asarray(cv2.resize(image, (width // step, height // step), interpolation=cv2.INTER_AREA))
    method = cv2.INTER_CUBIC if enlarged else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, into, interpolation=method), dtype=np.uint8)


def _either(pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(..., 2) -> (...), where one of the two is true: a fifth of the time that ``any`` takes."""
    return np.asarray(pairs[..., 0] | pairs[..., 1])


def _fixed_point(xy: NDArray[np.float32], scale: NDArray[np.float64]) -> NDArray[np.int32]:
    """Pixels of the image -> sixteenths of pixels of a picture ``scale`` (of x, of y) times as large (pixel centres are
    whole numbers in both)."""
    places = ((np.nan_to_num(xy) + 0.5) * scale - 0.5) * (1 << _SHIFT)
    return np.clip(places.round(), -_LIMIT, _LIMIT).astype(np.int32)
