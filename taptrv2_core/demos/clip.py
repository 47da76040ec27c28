"""A generated clip, for demos that are given no recording."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.synthetic import ClipConfig, ClipGenerator

CLIP = ClipConfig(
    split="heldout", frames=30, height=360, width=480, points=64, share_3d=1.0, first_frame_share=0.8,
    speed=(0.5, 0.9), fast_share=0.0,
)  # fmt: skip
SEED = 2
FLAT = replace(CLIP, share_3d=0.0)
"""Flat shapes before a flat background, all of which move and turn."""
FLAT_SEED = 6
RATE = 20
"""Images a second."""


class Clip(NamedTuple):
    """Images and what is true of the points in them.

    ``video`` (T, H, W, 3) uint8 RGB; ``query_frame`` (N,) a frame each point is visible in; ``xy`` (T, N, 2) pixels
    x, y; ``visible`` (T, N) bool.
    """

    video: NDArray[np.uint8]
    query_frame: NDArray[np.int64]
    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]


def there_and_back(config: ClipConfig = CLIP, seed: int = SEED) -> Clip:
    """The first clip of a seed, played forwards and then backwards: every point comes back to where it was."""
    clips = ClipGenerator(config, "cpu", seed).sample(1)
    video = (clips.video[0].clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    order = [*range(config.frames), *reversed(range(config.frames - 1))]
    xy, visible = clips.xy[0].float().numpy(), clips.visible[0].numpy()
    return Clip(video[order], clips.query_frame[0].numpy(), xy[order], visible[order])
