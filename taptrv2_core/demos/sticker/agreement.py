"""Whether a part of an image still looks as it did in the reference."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.encodings import RgbImage

_SLACK = 2  # pixels by which the two may be out of register
_SAME, _OTHER = 14.0, 34.0  # grey levels beyond the reference's range that still are noise, and that surely are not


def mismatch(reference: RgbImage, patch: RgbImage) -> NDArray[np.float32]:
    """How surely each pixel shows something else, (H, W) in [0, 1].

    Args:
        reference: (H, W, 3), what is to be seen.
        patch: (H, W, 3), what is seen, brought into the same place.

    A pixel is compared with all values that the reference has within two pixels, so that textures slightly out of
    register agree; brightness and contrast of each channel may have changed all over.
    """
    seen = _like(patch.astype(np.float32), reference.astype(np.float32))
    kernel = np.ones((2 * _SLACK + 1, 2 * _SLACK + 1), np.uint8)
    smooth = cv2.GaussianBlur(reference, (0, 0), 1.0).astype(np.float32)
    low, high = cv2.erode(smooth, kernel), cv2.dilate(smooth, kernel)
    blurred = cv2.GaussianBlur(seen, (0, 0), 1.0)
    beyond = np.maximum(np.maximum(low - blurred, blurred - high), 0).max(axis=-1)
    evened = cv2.blur(beyond, (5, 5))
    return np.asarray(np.clip((evened - _SAME) / (_OTHER - _SAME), 0, 1), dtype=np.float32)


def cut_patch(image: RgbImage, warp: NDArray[np.float64], size: tuple[int, int]) -> RgbImage:
    """What an image (H, W, 3) shows at the places that a warp maps a patch of ``size`` (width, height) to."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpPerspective(image, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(patch, dtype=np.uint8)


def _like(seen: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """``seen`` with the reference's brightness and contrast; half of the pixels may show something else."""
    result = np.empty_like(seen)
    for channel in range(3):
        a, b = seen[..., channel], reference[..., channel]
        spread = [float(np.subtract(*np.percentile(values, (75, 25)))) for values in (a, b)]
        gain = float(np.clip(spread[1] / spread[0], 0.67, 1.5)) if min(spread) > 8 else 1.0
        shift = float(np.median(b - gain * a))
        result[..., channel] = gain * a + np.clip(shift, -60, 60)
    return result
