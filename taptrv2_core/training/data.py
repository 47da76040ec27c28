"""Where clips come from: the generator or a folder of Kubric clips; each batch is decided by seed, process and step."""

from __future__ import annotations

from typing import Protocol

import torch

from taptrv2_core.fast.transfer import to_device
from taptrv2_core.geometry import PixelMap
from taptrv2_core.synthetic import ClipConfig, ClipGenerator, Clips
from taptrv2_core.training.losses import Truth
from taptrv2_core.training.stages import Stage

HELD_OUT_SEED = 20_000
RANK_STRIDE = 1_000_003


class ClipSource(Protocol):
    """Gives the batch of a step; the same one however often and in whatever order it is asked for."""

    def batch(self, step: int, stage: Stage) -> Clips:
        """Clips of the stage's size, frames, points and batch."""
        ...

    def held_out(self, stage: Stage, clips: int, frames: int) -> Clips:
        """Clips to measure on, of the stage's size: never trained on, and always the same."""
        ...


class SyntheticSource:
    """Clips of the generator, made on the device that trains.

    A clip takes long to make, so each is used in two steps running: as it is, and mirrored, with other points.
    """

    def __init__(self, seed: int, device: torch.device, rank: int = 0) -> None:
        self.seed = seed + RANK_STRIDE * rank
        self.device = device
        self._generator: tuple[ClipConfig, ClipGenerator] | None = None
        self._made: tuple[ClipConfig, int, int, Clips] | None = None

    def batch(self, step: int, stage: Stage) -> Clips:
        """See `ClipSource.batch`."""
        config = ClipConfig(stage.frames, *stage.size, 2 * stage.points, speed=stage.speed)
        key = (config, step // 2, stage.batch)
        if self._made is None or self._made[:3] != key:
            self._made = (*key, self._make(*key))
        return half_of(self._made[3], second=step % 2 == 1)

    def _make(self, config: ClipConfig, index: int, clips: int) -> Clips:
        if self._generator is None or self._generator[0] != config:
            self._generator = (config, ClipGenerator(config, device=self.device, seed=self.seed))
        generator = self._generator[1]
        generator.restore({"seed": self.seed, "index": index})
        return generator.sample(clips)

    def held_out(self, stage: Stage, clips: int, frames: int) -> Clips:
        """See `ClipSource.held_out`."""
        config = ClipConfig(frames, *stage.size, stage.points, split="heldout")
        return ClipGenerator(config, device=self.device, seed=HELD_OUT_SEED).sample(clips)


def half_of(clips: Clips, second: bool) -> Clips:
    """Every other point; for the second half of them the images are mirrored, left to right."""
    points = slice(int(second), None, 2)
    video, xy = clips.video, clips.xy[:, :, points]
    if second:
        video = video.flip(-1)
        xy = torch.stack((video.shape[-1] - 1 - xy[..., 0], xy[..., 1]), dim=-1)
    return Clips(video, xy, clips.visible[:, :, points], clips.inside[:, :, points], clips.query_frame[:, points])


def to_truth(clips: Clips) -> Truth:
    """Clips' ground truth in the network's coordinates."""
    size = (int(clips.video.shape[-2]), int(clips.video.shape[-1]))
    position = PixelMap(size, size).to_position(clips.xy)
    start, starts = clips.query_frame, None
    if not start.is_cuda:
        starts = (int(start.min()), int(start.max()))
        start = to_device(start, position.device)
    return Truth(position, clips.visible, clips.inside, start, starts)
