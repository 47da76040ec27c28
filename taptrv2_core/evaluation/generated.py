"""Held-out generated clips as samples: textures, shapes and motions that training never shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from taptrv2_core.evaluation.datasets import Dataset
from taptrv2_core.evaluation.samples import Sample
from taptrv2_core.synthetic import ClipConfig, ClipGenerator, Clips


def synthetic_dataset(
    clips: int = 32, frames: int = 24, size: int = 256, points: int = 64, device: str = "cpu", seed: int = 0
) -> Dataset:
    """The first ``clips`` held-out clips of a seed: the same on every call.

    Args:
        clips: how many.
        frames: length of each.
        size: height and width in pixels.
        points: queries in each.
        device: where they are made.
        seed: of the generator.
    """
    return Dataset("synthetic, held out", clips, _Clips(clips, frames, size, points, device, seed))


class _Clips:
    def __init__(self, clips: int, frames: int, size: int, points: int, device: str, seed: int) -> None:
        if clips < 1:
            raise ValueError(f"the number of clips must be at least 1, got {clips}")
        self.clips = clips
        self.config = ClipConfig(split="heldout", frames=frames, height=size, width=size, points=points)
        self.device, self.seed = torch.device(device), seed

    def __iter__(self) -> Iterator[Sample]:
        generator = ClipGenerator(self.config, self.device, self.seed)
        for i in range(self.clips):
            yield clip_sample(f"synthetic/{i:03d}", generator.sample(1), 0)


def clip_sample(name: str, clips: Clips, index: int) -> Sample:
    """Clip ``index`` of a batch: frames rounded to 8 bits, as a camera would give them."""
    video = (clips.video[index].clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    query_frame = clips.query_frame[index].cpu().numpy().astype(np.int64)
    xy = clips.xy[index].float().cpu().numpy()
    visible = clips.visible[index].cpu().numpy().astype(np.bool_)
    return Sample(
        name=name,
        video=video.cpu().numpy(),
        query_frame=query_frame,
        query_xy=xy[query_frame, np.arange(len(query_frame))],
        gt_xy=xy,
        gt_visible=visible,
        scored=np.ones_like(visible),
        known=clips.inside[index].cpu().numpy().astype(np.bool_),
        query_mode="first",
    )
