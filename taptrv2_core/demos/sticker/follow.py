"""First pass: points on a surface are tracked from one image to both ends of the video, and tell where it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.demos.final import final_tracks
from taptrv2_core.demos.sticker.spool import Spool
from taptrv2_core.demos.sticker.warp import Placement, WarpEstimator
from taptrv2_core.encodings import RgbImage
from taptrv2_core.model import Taptr
from taptrv2_core.regions import points_in_region
from taptrv2_core.tracker import Tracker

POINTS = 196
_AROUND = 0.08  # share of the box's size by which tracked points lie outside it
_WORKING_SIDE = 640  # images are shrunk to this longer side for everything but the drawing
_LEAST_SIDE = 16


class Box(NamedTuple):
    """An upright box: its top left corner, width and height in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def corners(self) -> NDArray[np.float64]:
        """(4, 2) x, y, clockwise from the top left."""
        right, bottom = self.x + self.width, self.y + self.height
        return np.array([(self.x, self.y), (right, self.y), (right, bottom), (self.x, bottom)], np.float64)

    def scaled(self, factor: float) -> Box:
        """The same place in an image ``factor`` times as large."""
        return Box(
            (self.x + 0.5) * factor - 0.5, (self.y + 0.5) * factor - 0.5, self.width * factor, self.height * factor
        )


@dataclass(frozen=True)
class Surface:
    """A surface through all images of a video. Pixels are those of the full images.

    Attributes:
        frame: number of the reference image.
        reference: that image, (H, W, 3).
        box: where the surface is in it.
        points: (N, 2) x, y of the tracked points there.
        placements: of every image, in order.
    """

    frame: int
    reference: RgbImage
    box: Box
    points: NDArray[np.float64]
    placements: list[Placement]


def follow_surface(
    model: Taptr, images: Iterable[RgbImage], frame: int = 0, box: Box | None = None
) -> Iterator[int | Surface]:
    """Follow what is in a box of one image through all of them.

    Args:
        model: from `load_model`.
        images: (H, W, 3) RGB each, all of one size.
        frame: number of the image, from 0, the box is given in.
        box: None: the middle of the image.

    Yields:
        The number of images done, after each; at last the surface.

    Raises:
        ValueError: the box lies outside the image or is too small, or there is no image of that number.
    """
    images = iter(images)
    with Spool() as before:
        for image in itertools.islice(images, frame):
            before.push(_shrunk(image))
        reference = next(images, None)
        if reference is None:
            raise ValueError(f"--frame {frame}: the recording has no such image; they are counted from 0")
        box = checked_box(box, reference)
        follower = _Follower(model, reference, box)
        placements: list[Placement] = []
        for placement in follower.through(_shrunk(image) for image in images):
            placements.append(placement)
            yield len(placements)
        earlier = []
        for placement in itertools.islice(follower.through(before.newest_first()), 1, None):
            earlier.append(placement)
            yield len(placements) + len(earlier)
    yield Surface(frame, reference, box, follower.points, earlier[::-1] + placements)


def checked_box(box: Box | None, image: RgbImage) -> Box:
    """A box inside the image; the middle of it by default. Raises ValueError."""
    height, width = image.shape[:2]
    if box is None:
        side = 0.4 * min(height, width)
        return Box((width - side) / 2, (height - side) / 2, side, side)
    if min(box.width, box.height) < _LEAST_SIDE:
        raise ValueError(
            f"--box: {box.width:g} x {box.height:g} pixels are too few to follow; at least {_LEAST_SIDE} a side"
        )
    right, bottom = box.x + box.width, box.y + box.height
    if box.x < 0 or box.y < 0 or right > width or bottom > height:
        raise ValueError(
            f"--box: x {box.x:g} to {right:g}, y {box.y:g} to {bottom:g} reaches outside the image of "
            f"{width} x {height} pixels"
        )
    return box


class _Follower:
    """Tracks from the reference image, either way."""

    def __init__(self, model: Taptr, reference: RgbImage, box: Box) -> None:
        self._model, self._reference = model, _shrunk(reference)
        self._factor = self._reference.shape[1] / reference.shape[1]
        self._box = box.scaled(self._factor)
        margin = _AROUND * np.array((box.width, box.height))
        corners = np.stack((box.corners[0] - margin, box.corners[2] + margin))
        self.points = points_in_region(corners, (reference.shape[0], reference.shape[1]), count=POINTS)

    def through(self, images: Iterable[RgbImage]) -> Iterator[Placement]:
        """Placements in the reference image and in shrunk ones that follow it."""
        points = (self.points + 0.5) * self._factor - 0.5
        tracker = Tracker(self._model, max_points=len(points))
        tracker.add_points(points)
        estimator = WarpEstimator(self._reference, self._box.corners, points)
        grow = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], np.float64)  # pixel centres -> distances from the edge
        grow = np.linalg.inv(grow) @ np.diag((1 / self._factor, 1 / self._factor, 1.0)) @ grow
        for index, (image, tracks) in enumerate(final_tracks(tracker, itertools.chain((self._reference,), images))):
            if index == 0:
                yield Placement(np.eye(3), np.ones(len(points), bool), True)
                continue
            found = estimator.update(image, tracks.xy, tracks.visible)
            yield found._replace(warp=grow @ found.warp @ np.linalg.inv(grow))


def _shrunk(image: RgbImage) -> RgbImage:
    longer = max(image.shape[:2])
    if longer <= _WORKING_SIDE:
        return image
    size = tuple(max(2, round(side * _WORKING_SIDE / longer)) for side in image.shape[1::-1])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
