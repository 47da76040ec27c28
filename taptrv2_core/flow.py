"""Optical flow: a camera's images as pyramidal Lucas-Kanade takes them, and points followed from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.fast import flow as fused
from taptrv2_core.geometry import PixelMap
from taptrv2_core.images import reduced
from taptrv2_core.refine import patches

LONGEST_SIDE = 640
"""Larger images are reduced to this: more detail costs time, and flow gives up on smooth surfaces sooner."""


@dataclass(frozen=True)
class FlowImage:
    """What flow needs of an image.

    Attributes:
        grey: (h, w) uint8, the image at its own size, or reduced.
        pixels: between this image and the network's positions.
    """

    grey: NDArray[np.uint8]
    pixels: PixelMap

    @cached_property
    def pyramid(self) -> Tensor:
        """As the op of flow reads it; it is needed for two frames."""
        return fused.pyramid(self.grey)

    def around(self, position: Tensor) -> Tensor:
        """Patches around places (N, 2) in [0, 1], as `Refiner` takes them."""
        return patches(torch.from_numpy(self.grey).unsqueeze(0), self.pixels.to_pixels(position).unsqueeze(0))[0]

    @classmethod
    def of(cls, image: NDArray[Any], input_size: tuple[int, int]) -> FlowImage:
        """image (H, W, 3) RGB, uint8 or float in [0, 1]; input_size (height, width) the network sees it at."""
        import cv2  # here, so that training and the ops' checks need only torch and numpy

        height, width = image.shape[:2]
        factor = max(height, width) / LONGEST_SIDE
        if factor > 1:
            image = reduced(image, (max(1, round(height / factor)), max(1, round(width / factor))))
        if image.dtype != np.uint8:
            image = np.rint(image * 255).astype(np.uint8)
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        return cls(grey, PixelMap((grey.shape[0], grey.shape[1]), input_size))

    @classmethod
    def of_input(cls, image: Tensor) -> FlowImage:
        """image (3, H, W) RGB in [0, 1], as the network sees it."""
        array = np.ascontiguousarray(image.float().cpu().permute(1, 2, 0).numpy())
        return cls.of(array, (array.shape[0], array.shape[1]))


def follow(
    before: FlowImage, after: FlowImage, xy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points xy (N, 2), N > 0, of one image in the next of the same size: (N, 2) pixels, and by how many pixels they
    miss where they came from when followed back, (N,); infinite where flow gives up or the point leaves the image."""
    height, width = after.grey.shape
    if fused.usable((height, width)):
        moved, returned, found = fused.there_and_back(before.pyramid, after.pyramid, (height, width), xy)
    else:
        moved, found_there = _flow(before.grey, after.grey, xy)
        returned, found_back = _flow(after.grey, before.grey, moved)
        found = found_there & found_back
    inside = ((moved >= -0.5) & (moved <= np.array([width - 0.5, height - 0.5]))).all(axis=-1)
    missed = np.linalg.norm(returned - xy, axis=-1)
    return moved, np.where(found & inside, missed, np.inf).astype(np.float32)


def _flow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], xy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    import cv2

    start = np.ascontiguousarray(xy).reshape(-1, 1, 2)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, np.empty_like(start))
    return np.asarray(moved, dtype=np.float32).reshape(-1, 2), np.asarray(found).reshape(-1) > 0
