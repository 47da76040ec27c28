"""Held-out accuracy while training: the streaming answer of every frame, a few clips, quick."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from taptrv2_core.engine import VISIBLE_CLASS
from taptrv2_core.model import Taptr
from taptrv2_core.synthetic import Clips
from taptrv2_core.training.data import to_truth
from taptrv2_core.training.losses import UNIT, start_positions
from taptrv2_core.training.unroll import encode_clips, unroll

THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0)
BINS = ((0.0, 4.0), (4.0, 16.0), (16.0, 32.0), (32.0, float("inf")))
"""Displacement since the query, pixels at 256 x 256."""


@dataclass(frozen=True)
class Streamed:
    """Streaming answers, each as its frame's own window gave it: position (B, T, N, 2) in [0, 1], visible (B, T, N)."""

    position: Tensor
    visible: Tensor


@torch.no_grad()
def stream(model: Taptr, clips: Clips, bf16: bool) -> Streamed:
    """Every frame's answer at once: the newest frame of the window that runs when it arrives."""
    truth = to_truth(clips)
    start = start_positions(truth)
    position = start.unsqueeze(1).repeat(1, clips.video.shape[1], 1, 1)
    visible = torch.ones_like(truth.visible)
    with torch.autocast(clips.video.device.type, torch.bfloat16, enabled=bf16):
        encoded = encode_clips(model, clips.video)
        for window in unroll(model, encoded, truth.start, start, range(clips.video.shape[1])):
            newest = window.frames.stop - 1
            position[:, newest] = window.result.position[:, -1].to(position.dtype)
            visible[:, newest] = window.result.visibility[:, -1, :, VISIBLE_CLASS].sigmoid() > 0.5
    return Streamed(position, visible)


def measure(model: Taptr, clips: Clips, bf16: bool = False, batch: int = 4) -> dict[str, float]:
    """delta_avg, share below 1 px, occlusion accuracy, accuracy of "always visible", delta_avg by displacement.

    Over all points and frames after the query, of clips in which nothing is averaged per video first; the figures of
    `taptr evaluate` are TAP-Vid's.
    """
    parts = [_part(clips, i, i + batch) for i in range(0, clips.video.shape[0], batch)]
    answers = [stream(model, part, bf16) for part in parts]
    position = torch.cat([answer.position for answer in answers])
    visible = torch.cat([answer.visible for answer in answers])
    return score(position, visible, clips)


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


def _part(clips: Clips, first: int, last: int) -> Clips:
    return Clips(*(getattr(clips, name)[first:last] for name in ("video", "xy", "visible", "inside", "query_frame")))
