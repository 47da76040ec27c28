"""Sizes of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a TAPTRv2 network. Sizes are (height, width)."""

    name: str
    input_size: tuple[int, int]
    """Images are resized to this before the network; another size may be chosen when a model is loaded."""
    backbone: Literal["resnet50", "compact"]
    channels: int
    """C: channels of memory and queries."""
    heads: int
    encoder_layers: int
    decoder_layers: int
    encoder_feedforward: int
    decoder_feedforward: int
    query_align_corners: bool
    """How a query's initial feature is sampled: the published network puts 0 and 1 at the first and last cell's centre,
    unlike its attention; networks trained here use half-cell centres everywhere."""
    levels: int = 4
    """L: feature levels, strides 4, 8, 16, 32."""
    points: int = 4
    """P: sampling points a level and head."""
    window: int = 8
    """Frames in a window; the stride of windows is half of it."""
    freeze_batch_norm: bool = True
    motion: Literal["none", "flow"] = "none"
    """Where a new frame's reference points begin. "none", as published: where the newest committed window left them;
    "flow": at the last frame's answer, moved by optical flow where that can be trusted (`taptrv2_core.motion`)."""

    search: bool = False
    """Whether lost points are searched for in the whole image (`taptrv2_core.search`)."""
    refine: bool = False
    """Whether answers are corrected by the image's own pixels around them (`taptrv2_core.refine`); with "flow" only."""

    @property
    def head_channels(self) -> int:
        """D: channels of one head."""
        return self.channels // self.heads

    @property
    def samples(self) -> int:
        """K = M * L * P: sampling locations of one query."""
        return self.heads * self.levels * self.points


PUBLISHED = ModelConfig(
    name="published", input_size=(512, 512), backbone="resnet50", channels=256, heads=8,
    encoder_layers=2, decoder_layers=5, encoder_feedforward=2048, decoder_feedforward=2048,
    query_align_corners=True,
)  # fmt: skip
"""The network of the TAPTRv2 paper (NeurIPS 2024)."""

SMALL = ModelConfig(
    name="small", input_size=(288, 288), backbone="compact", channels=128, heads=4,
    encoder_layers=1, decoder_layers=4, encoder_feedforward=256, decoder_feedforward=512,
    query_align_corners=False, freeze_batch_norm=False, motion="flow", search=True, refine=True,
)  # fmt: skip
"""The network whose weights this project trains and ships; real time on a CPU."""

CONFIGS = {config.name: config for config in (PUBLISHED, SMALL)}
