"""The refiner in one call, for tracking on a CPU.

Its network is so small that in PyTorch nearly all time goes into the start of its operations. The op takes one point
after another through all of them, from pixels to offset, in the processor's nearest cache. It has no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.fast.packing import chain, padded
from taptrv2_core.ops.backend import active_backend

if TYPE_CHECKING:
    from taptrv2_core.refine import Look, Refiner

CHANNELS = 16
"""Features that the op is made for."""
TOGETHER = 4
"""Outputs of a convolution that lie together in its packed weight; also those of a group."""
LEAST_SIDE = 2
"""Of images that the op is made for: every sample lies between two pixels."""


class FusedRefiner:
    """A refiner's weights as the op reads them: those of ``Refine`` in csrc/refine.h, in its order."""

    def __init__(self, refiner: Refiner) -> None:
        convolutions = [layer for layer in refiner.features if isinstance(layer, nn.Conv2d)]
        with torch.no_grad():
            parts = [part for layer in (*convolutions, refiner.context) for part in _packed(layer)]
            parts.append(padded(torch.cat([part.flatten() for part in refiner.doubt.parameters()])))
            parts.append(padded(F.softplus(refiner.damping).reshape(1)))
            self.parameters = torch.cat((*parts, *chain(refiner.spread)))

    @classmethod
    def of(cls, refiner: Refiner) -> FusedRefiner | None:
        """None where the op is not built or not made for the device, number format or sizes."""
        weight = refiner.context.weight
        fits = weight.device.type == "cpu" and weight.dtype == torch.float32 and len(weight) == CHANNELS
        return cls(refiner) if fits and active_backend("cpu") == "fused" else None

    @staticmethod
    def usable(grey: NDArray[np.uint8]) -> bool:
        """Whether the op may be used now, on this image (h, w)."""
        return min(grey.shape) >= LEAST_SIDE and active_backend("cpu") == "fused"

    def __call__(self, look: Look, rows: Tensor, grey: NDArray[np.uint8], xy: Tensor) -> tuple[Tensor, Tensor]:
        """As `Refiner.align`."""
        image = torch.from_numpy(np.ascontiguousarray(grey))
        kept = (part.contiguous() for part in (look.features, look.weight, look.contrast))
        offset, spread = torch.ops.taptrv2.refine(image, xy.float().contiguous(), rows, *kept, self.parameters)
        return offset, spread


def _packed(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight, of `TOGETHER` outputs at a time (taps, `TOGETHER`), and bias."""
    assert layer.bias is not None
    taps = layer.weight[0].numel()
    return padded(layer.weight.view(-1, TOGETHER, taps).transpose(1, 2).reshape(-1)), padded(layer.bias)
