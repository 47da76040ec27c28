"""Held-out accuracy while training: the streaming answer of every frame, a few clips, quick."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from taptrv2_core.engine import SlidingWindow
from taptrv2_core.geometry import UNIT
from taptrv2_core.model import Taptr
from taptrv2_core.synthetic import Clips
from taptrv2_core.training.data import to_truth
from taptrv2_core.training.losses import start_positions
from taptrv2_core.window_result import VISIBLE_CLASS

THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0)
BINS = ((0.0, 4.0), (4.0, 16.0), (16.0, 32.0), (32.0, float("inf")))
"""Displacement since the query, pixels at 256 x 256."""


@dataclass(frozen=True)
class Streamed:
    """Streaming answers, each as its frame's own window gave it: position (B, T, N, 2) in [0, 1], visible (B, T, N)."""

    position: Tensor
    visible: Tensor


@torch.inference_mode()
def stream(model: Taptr, clips: Clips) -> Streamed:
    """Every frame's answer at once, from the tracker's own engine, a clip after another."""
    truth = to_truth(clips)
    start = start_positions(truth)
    position = start.unsqueeze(1).repeat(1, clips.video.shape[1], 1, 1)
    visible = torch.ones_like(truth.visible)
    for clip, video in enumerate(clips.video):
        engine = SlidingWindow(model)
        order: list[int] = []
        for t, image in enumerate(video):
            engine.push(image)
            if order:
                result = engine.commit() if engine.commits else engine.run()
                assert result is not None
                position[clip, t, order] = result.position[0, t % engine.slots].to(position.dtype)
                visible[clip, t, order] = result.visibility[0, t % engine.slots, :, VISIBLE_CLASS] > 0
            new = (truth.start[clip] == t).nonzero().flatten().tolist()
            if new:
                engine.add(start[clip, new], t)
                order += new
    return Streamed(position, visible)


def measure(model: Taptr, clips: Clips) -> dict[str, float]:
    """delta_avg, share below 1 px, occlusion accuracy, accuracy of "always visible", delta_avg by displacement.

    Over all points and frames after the query, of clips in which nothing is averaged per video first; the figures of
    `taptr evaluate` are TAP-Vid's.
    """
    streamed = stream(model, clips)
    return score(streamed.position, streamed.visible, clips)


def score(position: Tensor, visible: Tensor, clips: Clips) -> dict[str, float]:
    """The figures of `measure` for given answers, position (B, T, N, 2) in [0, 1], visible (B, T, N)."""
    truth = to_truth(clips)
    frames = torch.arange(position.shape[1], device=position.device)[None, :, None]
    later = frames > truth.start[:, None]
    error = torch.linalg.vector_norm((position - truth.position) * UNIT, dim=-1)
    travelled = torch.linalg.vector_norm((truth.position - start_positions(truth)[:, None]) * UNIT, dim=-1)
    seen = later & truth.visible
    within = torch.stack([error < threshold for threshold in THRESHOLDS]).float().mean(0)
    figures = {
        "delta_avg": _mean(within, seen),
        "within_1": _mean((error < 1).float(), seen),
        "delta_hidden": _mean(within, later & truth.inside & ~truth.visible),
        "occlusion_accuracy": _mean((visible == truth.visible).float(), later),
        "always_visible": _mean(truth.visible.float(), later),
    }
    for low, high in BINS:
        figures[f"delta_{low:.0f}_{high:.0f}"] = _mean(within, seen & (travelled >= low) & (travelled < high))
    return figures


def _mean(values: Tensor, where: Tensor) -> float:
    return float(values[where].mean()) if bool(where.any()) else float("nan")
