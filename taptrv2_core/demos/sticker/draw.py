"""Second pass: the sticker drawn into every image, behind whatever is in front of the surface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.demos.sticker.agreement import cut_patch, mismatch
from taptrv2_core.demos.sticker.artwork import Rgba
from taptrv2_core.demos.sticker.follow import Box, Surface
from taptrv2_core.demos.sticker.smooth import smooth_warps
from taptrv2_core.encodings import RgbImage

_GRID = 16  # cells a side in which tracks are counted
_MASK_SIDE = 320  # of the patch that is looked at for occluders
_IMAGE_WEIGHT = 0.65  # of what the image shows, against what the tracks say
_HIDDEN = 0.45
_KEEP = 0.35  # weight of the mask of the image before: it does not flicker


def draw_sticker(images: Iterable[RgbImage], surface: Surface, artwork: Rgba) -> Iterator[RgbImage]:
    """Every image of the video that the surface was followed in, with the sticker on it.

    Args:
        images: the same as given to `follow_surface`.
        surface: what it found.
        artwork: (H, W, 4) RGBA; fitted into the box.
    """
    warps = smooth_warps(surface.placements, surface.box.corners)
    mask = _Occlusion(surface)
    sticker = _fitted(artwork, surface.box)
    for image, placement, warp in zip(images, surface.placements, warps, strict=False):
        yield _compose(image, sticker, surface.box, warp, mask.update(image, warp, placement.on_surface))


class _Occlusion:
    """Which parts of the box are covered, in one image after another."""

    def __init__(self, surface: Surface) -> None:
        box = surface.box
        self._scale = min(1.0, _MASK_SIDE / max(box.width, box.height))
        self._size = (max(8, round(box.width * self._scale)), max(8, round(box.height * self._scale)))
        self._from_patch = _onto_box(box, self._size)
        self._reference = cut_patch(surface.reference, self._from_patch, self._size)
        self._weights = _weights(surface.points, box, self._size)
        self._mask: NDArray[np.float32] | None = None

    def update(self, image: RgbImage, warp: NDArray[np.float64], on_surface: NDArray[np.bool_]) -> NDArray[np.float32]:
        """How much of the surface is to be seen, over the box, in [0, 1]."""
        patch = cut_patch(image, warp @ self._from_patch, self._size)
        covered = _grown(mismatch(self._reference, patch))
        cells = (self._weights @ (~on_surface).astype(np.float32)).reshape(_GRID, _GRID)
        lost = cv2.resize(cells, self._size, interpolation=cv2.INTER_LINEAR)
        evidence = _IMAGE_WEIGHT * covered + (1 - _IMAGE_WEIGHT) * lost
        hidden: NDArray[Any] = (evidence > _HIDDEN).astype(np.float32)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
        hidden = cv2.morphologyEx(cv2.morphologyEx(hidden, cv2.MORPH_OPEN, disc), cv2.MORPH_CLOSE, disc)
        if self._mask is not None:
            hidden = (1 - _KEEP) * hidden + _KEEP * self._mask
        self._mask = np.asarray(hidden, dtype=np.float32)
        return np.asarray(1 - cv2.GaussianBlur(np.clip(1.6 * hidden - 0.3, 0, 1), (0, 0), 1.5), dtype=np.float32)


def _onto_box(box: Box, size: tuple[int, int]) -> NDArray[np.float64]:
    """Pixels of a picture of ``size`` (width, height) that fills the box -> pixels of the reference image."""
    x, y = box.width / size[0], box.height / size[1]
    return np.array([[x, 0, box.x + 0.5 * x - 0.5], [0, y, box.y + 0.5 * y - 0.5], [0, 0, 1]], np.float64)


def _weights(points: NDArray[np.float64], box: Box, size: tuple[int, int]) -> NDArray[np.float32]:
    """(16 * 16, N): how much each point says about each cell of the box, adding up to 1 for every cell."""
    centres = (np.arange(_GRID) + 0.5) / _GRID
    cells = np.stack(np.meshgrid(box.x + centres * box.width, box.y + centres * box.height), axis=-1).reshape(-1, 1, 2)
    distances = np.linalg.norm(cells - points, axis=-1)
    spacing = np.sqrt(box.width * box.height / len(points))
    weights = np.exp(-0.5 * (distances / (1.2 * spacing)) ** 2) + 1e-9
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _grown(covered: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rim, where slack hides what is different, belongs to the occluder."""
    return np.asarray(cv2.dilate(covered, np.ones((5, 5), np.uint8)), dtype=np.float32)


def _fitted(artwork: Rgba, box: Box) -> NDArray[np.float32]:
    """The artwork in the middle of a picture with the box's shape, colours times alpha, (H, W, 4) in [0, 1]."""
    scale = min(box.width / artwork.shape[1], box.height / artwork.shape[0])
    picture = artwork.astype(np.float32) / 255
    picture[..., :3] *= picture[..., 3:]
    enlarged = max(1.0, min(2.0, 1 / scale))  # drawn at up to twice the size, then shrunk: smooth edges
    size = [max(1, round(side * scale * enlarged)) for side in artwork.shape[1::-1]]
    interpolation = cv2.INTER_AREA if scale * enlarged < 1 else cv2.INTER_CUBIC
    picture = np.clip(cv2.resize(picture, size, interpolation=interpolation), 0, 1)
    width, height = (max(s, round(side * enlarged)) for s, side in zip(size, (box.width, box.height), strict=True))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas = np.zeros((height, width, 4), np.float32)
    canvas[top : top + size[1], left : left + size[0]] = picture
    return canvas


def _compose(
    image: RgbImage, sticker: NDArray[np.float32], box: Box, warp: NDArray[np.float64], seen: NDArray[np.float32]
) -> RgbImage:
    """The image with the sticker, where the surface is seen."""
    size = (image.shape[1], image.shape[0])
    drawn: NDArray[Any] = sticker * cv2.resize(seen, (sticker.shape[1], sticker.shape[0]))[..., None]
    place = _onto_box(box, (sticker.shape[1], sticker.shape[0]))
    layer = cv2.warpPerspective(drawn, warp @ place, size, flags=cv2.INTER_LINEAR)
    result = image * (1 - layer[..., 3:]) + 255 * layer[..., :3]
    return np.asarray(np.clip(result.round(), 0, 255), dtype=np.uint8)
