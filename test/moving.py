"""A texture that moves by a known step, with three tracks: a sample for the evaluation."""

from __future__ import annotations

import cv2
import numpy as np

from taptrv2_core.evaluation.samples import Sample, make_sample

FRAMES, HEIGHT, WIDTH = 12, 48, 80
STEP = (2.0, 1.0)


def moving_sample(name: str = "moving", query_mode: str = "first") -> Sample:
    """A smooth texture that moves by STEP pixels a frame; three tracks, seen from frames 0, 0 and 5."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)
    video = np.stack([texture[30 - t : 30 - t + HEIGHT, 60 - 2 * t : 60 - 2 * t + WIDTH] for t in range(FRAMES)])
    first = np.array([[20, 15], [40, 20], [10, 10]], np.float32)
    xy = first[:, None] + np.arange(FRAMES)[None, :, None] * np.array(STEP, np.float32)
    visible = np.ones((3, FRAMES), bool)
    visible[2, :5] = False
    return make_sample(name, video, xy.astype(np.float32), visible, None, query_mode)  # type: ignore[arg-type]
