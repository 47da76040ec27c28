"""Images as cameras give them -> what the network takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.errors import ImageError
from taptrv2_core.fast.transfer import to_device
from taptrv2_core.ops import active_backend

DARK = 32 / 255
"""An image without a value above this shows nothing that could be tracked."""


def checked_image(image: Any) -> NDArray[Any]:
    """An image as (H, W, 3), uint8 or float32 in [0, 1], RGB; grey ones are repeated three times.

    Raises:
        ImageError: not (H, W, 3), (H, W, 1) or (H, W); smaller than 2 x 2; neither uint8 nor float; a float outside
            [0, 1] or not finite.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ImageError(f"image has shape {np.shape(image)}; expected (H, W, 3) RGB, or (H, W) grey")
    if min(array.shape[:2]) < 2:
        raise ImageError(f"image is {array.shape[1]} x {array.shape[0]} pixels; the least is 2 x 2")
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32, copy=False)
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ImageError(f"float image has values from {low:g} to {high:g}; expected [0, 1] without NaN")
    elif array.dtype != np.uint8:
        raise ImageError(f"image is {array.dtype}; expected uint8, or float in [0, 1] (16-bit images: divide by 256)")
    return array if array.shape[2] == 3 else np.repeat(array, 3, axis=2)


def checked_picture(image: Any) -> NDArray[Any]:
    """The same of a picture in which points are to be looked for. Raises ImageError too where it is nearly black."""
    array = checked_image(image)
    if is_dark(array):
        raise ImageError(
            "picture is nearly black: nothing can be found by it (a camera's 10 or 12 bits are the lower ones of "
            "16: scale them to 8)"
        )
    return array


def is_dark(image: NDArray[Any]) -> bool:
    """Whether a checked image is nearly black: a covered lens, or 16 bits of which only the lower ones are used.

    Of every second row and column, which takes some 0.05 ms of an image of 640 x 480.
    """
    most = 255 if image.dtype == np.uint8 else 1
    return bool(image[::2, ::2].max() < DARK * most)


def network_input(image: NDArray[Any], input_size: tuple[int, int], device: torch.device) -> Tensor:
    """A checked image -> (3, h, w) float RGB in [0, 1] at the network's input size (height, width).

    Shrinks with area averaging, enlarges bilinearly; pixel centres follow `geometry.PixelMap`.
    """
    height, width = input_size
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    if image.shape[:2] != (height, width):
        if shrinks and device.type == "cpu" and _by_op(image, input_size):
            return _shrunk(image, input_size).permute(2, 0, 1)
        import cv2  # here, so that training and the ops' checks need only torch and numpy

        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    tensor = to_device(_tensor(image), device).permute(2, 0, 1)
    return tensor / 255 if tensor.dtype == torch.uint8 else tensor


def reduced(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A checked image -> (h, w, 3) of the same kind at a smaller size (height, width): areas averaged."""
    import cv2

    if _by_op(image, size):
        return np.asarray(cv2.convertScaleAbs(_shrunk(image, size).numpy(), alpha=255))
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))


def _shrunk(image: NDArray[Any], size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (h, w, 3) float32, whole 255ths."""
    shrunk: Tensor = torch.ops.taptrv2.shrink(_tensor(image), *size)
    return shrunk


def _tensor(image: NDArray[Any]) -> Tensor:
    """The same memory where it may be written to, as PyTorch, which would warn, has no other; else a copy."""
    return torch.from_numpy(np.require(image, requirements=("C", "W")))


def _by_op(image: NDArray[Any], input_size: tuple[int, int]) -> bool:
    """Whether an image is reduced by the op, a tenth of the time; OpenCV rounds differently where sizes are whole
    multiples, and is quick then."""
    whole = all(before % after == 0 for before, after in zip(image.shape, input_size, strict=False))
    return image.dtype == np.uint8 and not whole and active_backend("cpu") == "fused"
