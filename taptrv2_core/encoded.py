"""Images after the part of the work that depends on nothing but the image: several cameras share it as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from taptrv2_core.fast.cuda_graphs import encode
from taptrv2_core.flow import FlowImage
from taptrv2_core.images import checked_image, network_input
from taptrv2_core.model import Memory, Taptr


@dataclass(frozen=True)
class EncodedImage:
    """An image as the network keeps it, to be given to `Tracker.step` in place of the image.

    Attributes:
        size: (height, width) of the image in pixels.
        memory: of this image alone, B = 1.
        flow_image: for networks that begin new frames by optical flow, else None.
    """

    size: tuple[int, int]
    memory: Memory
    flow_image: FlowImage | None = None


@torch.inference_mode()
def encode_images(model: Taptr, images: Sequence[Any]) -> list[EncodedImage]:
    """Encode images of several cameras at once; their sizes may differ.

    On a GPU a batch takes less time than its images one by one; the results differ by rounding only.

    Args:
        model: the network of the trackers that will step.
        images: each (H, W, 3) RGB or (H, W) grey, uint8, or float in [0, 1].

    Raises:
        ImageError: an image cannot be used.
    """
    arrays = [checked_image(image) for image in images]
    if not arrays:
        return []
    batch = torch.stack([network_input(array, model.config.input_size, model.device) for array in arrays])
    memory = encode(model, batch)
    flow = model.config.motion == "flow"
    return [
        EncodedImage(
            (int(array.shape[0]), int(array.shape[1])),
            Memory(tokens, memory.level_shapes),
            FlowImage.of(array, model.config.input_size) if flow else None,
        )
        for array, tokens in zip(arrays, memory.tokens.split(1), strict=True)
    ]
