"""Where points probably are in a new frame: the last answer, moved by optical flow where flow can be trusted.

The published network begins every new frame where the newest committed window left a point, up to 4 frames ago. A
network of `ModelConfig.motion` "flow" begins nearer: pyramidal Lucas-Kanade (OpenCV's) moves the last frame's answer,
and the network then corrects it by what it knows of the point's appearance, so that flow's drift does not add up.

Flow is exact from frame to frame and drifts; the network does not drift, and its error of a pixel or two differs from
frame to frame. So they are put together as in a Kalman filter of fixed gain: while the two agree to within `GATE`, the
answer is flow's prediction moved towards the network's measurement by the share `GAIN`; otherwise it is the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.geometry import PixelMap, inverse_sigmoid

LONGEST_SIDE = 640
"""Larger images are reduced for flow: more detail does not help a first guess."""
GAIN = 0.15
GATE = 4.0
"""Pixels of an image of 256 x 256."""
RETURN = 1.0
"""Pixels within which a point followed forward and back again must return."""


@dataclass(frozen=True)
class FlowImage:
    """What flow needs of an image.

    Attributes:
        grey: (h, w) uint8, the image at its own size, or reduced.
        pixels: between this image and the network's positions.
    """

    grey: NDArray[np.uint8]
    pixels: PixelMap

    @classmethod
    def of(cls, image: NDArray[Any], input_size: tuple[int, int]) -> FlowImage:
        """image (H, W, 3) RGB, uint8 or float in [0, 1]; input_size (height, width) the network sees it at."""
        import cv2  # here, so that training and the ops' checks need only torch and numpy

        height, width = image.shape[:2]
        factor = -(-max(height, width) // LONGEST_SIDE)
        if factor > 1:
            size = (max(1, width // factor), max(1, height // factor))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        if image.dtype != np.uint8:
            image = np.rint(image * 255).astype(np.uint8)
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        return cls(grey, PixelMap((grey.shape[0], grey.shape[1]), input_size))

    @classmethod
    def of_input(cls, image: Tensor) -> FlowImage:
        """image (3, H, W) RGB in [0, 1], as the network sees it."""
        array = np.ascontiguousarray(image.float().cpu().permute(1, 2, 0).numpy())
        return cls.of(array, (array.shape[0], array.shape[1]))


class MotionPrior:
    """The last answer of each query, and where flow takes it in the next frame. Rows are those of the engine."""

    def __init__(self) -> None:
        self._image: FlowImage | None = None
        self._position = torch.zeros(0, 2, dtype=torch.float64)
        self._visible = torch.zeros(0, dtype=torch.bool)
        self._known = torch.zeros(0, dtype=torch.bool)

    def add(self, position: Tensor, newest: bool) -> None:
        """More queries, (N, 2) x, y in [0, 1]; ``newest``: of the newest frame, so that these are its answers."""
        flags = torch.full((len(position),), newest)
        self._position = torch.cat((self._position, position.cpu().double()))
        self._visible = torch.cat((self._visible, flags))
        self._known = torch.cat((self._known, flags))

    def keep(self, rows: Tensor) -> None:
        """Keep only the queries in ``rows`` (n,) int64."""
        rows = rows.cpu()
        self._position, self._visible, self._known = self._position[rows], self._visible[rows], self._known[rows]

    def answer(self, position: Tensor, visible: Tensor) -> None:
        """The newest frame's answer: position (N, 2) in [0, 1], visible (N,) bool."""
        self._position, self._visible = position.cpu().double(), visible.cpu()
        self._known = torch.ones_like(self._visible)

    def enter(self, image: FlowImage) -> tuple[Tensor, Tensor, Tensor]:
        """A new frame: where the queries begin in it, (N, 2) in [0, 1], for which of them that is known, (N,), and for
        which flow has found it, (N,)."""
        before, self._image = self._image, image
        found = torch.zeros_like(self._known)
        rows = (self._known & self._visible).nonzero().flatten()
        if before is not None and len(rows) and before.grey.shape == image.grey.shape:
            xy = before.pixels.to_pixels(self._position[rows]).float().numpy()
            moved, trusted = follow(before.grey, image.grey, xy)
            rows = rows[torch.from_numpy(trusted)]
            self._position[rows] = image.pixels.to_position(torch.from_numpy(moved[trusted]).double())
            found[rows] = True
        return self._position, self._known, found


def filtered(entry: Tensor, measured: Tensor, found: Tensor) -> Tensor:
    """Where flow has found a point and the network agrees, flow's prediction moved a little towards the network's.

    Args:
        entry: (..., 4) logits of the boxes the network began with.
        measured: (..., 4) logits of those it ended with.
        found: (..., 1) bool, flow has found the point.

    Returns:
        (..., 4) logits.
    """
    begun, ended = entry[..., :2].sigmoid(), measured[..., :2].sigmoid()
    near = torch.linalg.vector_norm((ended - begun) * 256, dim=-1, keepdim=True) < GATE
    centre = torch.where(found & near, inverse_sigmoid(begun + GAIN * (ended - begun)), measured[..., :2])
    return torch.cat((centre, measured[..., 2:]), dim=-1)


def follow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], xy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Points xy (N, 2), N > 0, of one grey image in the next: (N, 2) pixels, and whether they can be trusted, (N,):
    inside the image, and returning to within a pixel when followed back."""
    moved, found = _flow(before, after, xy)
    returned, found_back = _flow(after, before, moved)
    limit = np.array([after.shape[1] - 0.5, after.shape[0] - 0.5])
    inside = ((moved >= -0.5) & (moved <= limit)).all(axis=-1)
    near = np.square(returned - xy).sum(axis=-1) < RETURN**2
    return moved, found & found_back & inside & near


def _flow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], xy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    import cv2

    start = np.ascontiguousarray(xy).reshape(-1, 1, 2)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, np.empty_like(start))
    return np.asarray(moved, dtype=np.float32).reshape(-1, 2), np.asarray(found).reshape(-1) > 0
