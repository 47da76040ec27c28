"""Optical flow there and back in one call, for tracking on a CPU.

The same pyramidal Lucas-Kanade as OpenCV's, to rounding. But an image's pyramid is made once, where OpenCV makes it
again for each of the two frames and two directions that it is needed for, and gradients are made around points only.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.ops.backend import active_backend

LEAST_SIDE = 22
"""Of images that the op is made for: one more than its window, as it reflects them at their borders once."""


def usable(size: tuple[int, int]) -> bool:
    """Whether the op is built and made for images of this (height, width)."""
    return min(size) >= LEAST_SIDE and active_backend("cpu") == "fused"


def pyramid(grey: NDArray[np.uint8]) -> Tensor:
    """An image (h, w) as `there_and_back` reads it."""
    result: Tensor = torch.ops.taptrv2.flow_pyramid(torch.from_numpy(np.ascontiguousarray(grey)))
    return result


def there_and_back(
    before: Tensor, after: Tensor, size: tuple[int, int], xy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Points xy (N, 2) of one image in another, (N, 2) pixels; those again in the first, (N, 2); whether flow has an
    answer for both, (N,). The images are pyramids of this ``size``, (height, width)."""
    xy = np.ascontiguousarray(xy, dtype=np.float32)
    moved, returned, found = torch.ops.taptrv2.flow(before, after, *size, torch.from_numpy(xy))
    return moved.numpy(), returned.numpy(), found.numpy()
