"""Positions: pixels and [0, 1], logits, and the sine position code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

LOGIT_EPSILON = 1e-3
UNIT = 256
"""Errors, variances and offsets are in pixels of an image of 256 x 256, the size of TAP-Vid's metrics, at whatever size
the network works; where they are measured in a camera's image, its longer side counts as so many."""


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor (n,) of the dtype and on the device of another; not to be changed.

    Kept, so that they are sent to a GPU once: with every copy from the host the host would wait for all its work.
    """
    return _constant(tuple(values), like.dtype, like.device)


@lru_cache(maxsize=256)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        return torch.tensor(values, dtype=dtype, device=device)


def inverse_sigmoid(value: Tensor) -> Tensor:
    """Logit of ``value`` in [0, 1], finite: the sigmoid of the result lies in about [0.001, 0.999]."""
    value = value.clamp(0, 1)
    return torch.log(value.clamp(min=LOGIT_EPSILON) / (1 - value).clamp(min=LOGIT_EPSILON))


def sine_code(position: Tensor, channels: int) -> Tensor:
    """Sine position code, ``channels`` a coordinate.

    Args:
        position: (..., 2) as x, y or (..., 4) as x, y, w, h, in [0, 1].
        channels: even; 128 in the published network.

    Returns:
        (..., 2 * channels) or (..., 4 * channels), coordinates in the order y, x, w, h.
    """
    frequency, phase = waves(channels, position.dtype, position.device)
    y_first = (position[..., :2].flip(-1), position[..., 2:])
    ordered = y_first[0] if position.shape[-1] == 2 else torch.cat(y_first, dim=-1)
    return torch.addcmul(phase, ordered.unsqueeze(-1), frequency).sin_().flatten(-2)


@lru_cache(maxsize=64)
def waves(channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Frequency and phase of each channel: sines at even ones, cosines (sines a quarter turn on) at odd ones."""
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        index = torch.arange(channels, dtype=torch.float64)
        frequency = 2 * math.pi / 10.0 ** (2 * (index // 2) / channels)
        phase = math.pi / 2 * (index % 2)
        return frequency.to(device, dtype), phase.to(device, dtype)


@dataclass(frozen=True)
class PixelMap:
    """Maps pixels of an image to the network's positions at its input size, and back.

    The image is resized with OpenCV's rule (half-pixel centres): pixel x of a width W lies at
    u = (x + 0.5) * w / W - 0.5 of the input width w, and its position is u / (w - 1). Without resizing, x / (W - 1).

    Args:
        image_size: (height, width) of the image the pixels belong to.
        input_size: (height, width) the network runs at.
    """

    image_size: tuple[int, int]
    input_size: tuple[int, int]

    def _affine(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift, each (x, y), of position = pixel * scale + shift."""
        pairs = [(self.input_size[i], self.image_size[i]) for i in (1, 0)]
        span = [max(small - 1, 1) for small, _ in pairs]
        scale = [small / full / s for (small, full), s in zip(pairs, span, strict=True)]
        shift = [(0.5 * small / full - 0.5) / s for (small, full), s in zip(pairs, span, strict=True)]
        return constant(scale, like), constant(shift, like)

    def to_position(self, pixels: Tensor) -> Tensor:
        """(..., 2) pixels x, y -> (..., 2) positions x, y."""
        scale, shift = self._affine(pixels)
        return pixels * scale + shift

    def to_pixels(self, position: Tensor) -> Tensor:
        """(..., 2) positions x, y -> (..., 2) pixels x, y."""
        scale, shift = self._affine(position)
        return (position - shift) / scale
