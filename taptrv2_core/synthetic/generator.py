"""Endless batches of clips."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .atlas import Atlas
from .config import ClipConfig, Clips
from .dice import Dice
from .layered import build_layered
from .motion_blur import blur
from .photometric import photograph
from .points import choose, follow
from .render import Frame, render
from .rooms import build_rooms
from .scene import Scene, image_boxes
from .shadows import Shadow
from .shapes import outlines
from .trace import Tracer

LOG = logging.getLogger(__name__)
MOTION_BLUR = 0.35
"""Share of the clips with it."""
Builder = Callable[[Dice, ClipConfig, Atlas, Tensor], Scene]


class ClipGenerator:
    """Makes batches; batch number i depends on (config, seed, i, device type) alone.

    Scenes are laid out on the CPU (a few numbers a clip); pixels and tracks are made on `device`.
    """

    def __init__(self, config: ClipConfig, device: torch.device | str = "cpu", seed: int = 0) -> None:
        self.config, self.device, self.seed = config, torch.device(device), seed
        self.index = 0
        self.frame = Frame(config.height, config.width, self.device)
        self.shapes = outlines(config.split, self.device)
        self.atlas = Atlas(config, self.device, seed)
        self._source = torch.Generator(self.device)

    def state(self) -> dict[str, int]:
        """All that `restore` needs to go on with the same batches."""
        return {"seed": self.seed, "index": self.index}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken. Raises ValueError if the seed is another."""
        if state["seed"] != self.seed:
            raise ValueError(
                f"This generator has seed {self.seed}, the saved state seed {state['seed']}; use the saved one"
            )
        self.index = state["index"]

    def __iter__(self) -> Iterator[Clips]:
        """Batches of one clip, without end."""
        while True:
            yield self.sample(1)

    @torch.no_grad()
    def sample(self, batch: int) -> Clips:
        """The next batch of clips."""
        if batch < 1:
            raise ValueError(f"sample: at least one clip, not {batch}")
        dice = Dice(3 if self.config.split == "train" else 4, self.seed, self.index)
        self._source.manual_seed(dice.seed)
        self.atlas.refresh(self.index)
        self.index += 1
        solid = dice.chance(self.config.share_3d, batch)
        low, high = self.config.speed
        fast = dice.chance(self.config.fast_share, batch)
        middle = (low * high) ** 0.5
        speed = torch.where(fast, dice.log_uniform(middle, high, batch), dice.log_uniform(low, high, batch))
        builders: tuple[tuple[Builder, Tensor], ...] = ((build_rooms, solid), (build_layered, ~solid))
        parts = [self._make(dice, build, speed[mask]) for build, mask in builders if bool(mask.any())]
        order = torch.cat((solid.nonzero()[:, 0], (~solid).nonzero()[:, 0])).argsort().to(self.device)
        columns = zip(*parts, strict=True)
        return Clips(*(torch.cat(column)[order] if len(parts) > 1 else column[0] for column in columns))

    def _make(self, dice: Dice, build: Builder, speed: Tensor) -> tuple[Tensor, ...]:
        """Video, xy, visible, inside and query frame of the clips of one kind."""
        scene = build(dice, self.config, self.atlas, speed)
        boxes = image_boxes(scene, self.frame.half, self.config.height, self.config.width)
        exact = scene.to(self.device, torch.float64)
        tracer = Tracer(exact.to(self.device, torch.float32), self.shapes)
        shape = (len(speed), self.config.frames)
        cells = 64 if max(self.config.height, self.config.width) <= 160 else 112
        shadow = Shadow.cast(scene, self.shapes, cells, dice.integer(1, 4))
        video, seen = render(tracer, self.atlas, self.frame, boxes, shadow, self.config.antialias)
        video, seen = video.unflatten(0, shape), seen.unflatten(0, shape)
        chosen = choose(self.config, tracer, self.frame, video, seen, self._source)
        xy, visible, inside = follow(self.config, exact, tracer, self.frame, chosen)
        if self.config.photometric:
            for clip in dice.chance(MOTION_BLUR, len(speed)).nonzero()[:, 0].tolist():
                blur(video[clip], tracer, self.frame, clip * self.config.frames, dice.number(0.2, 0.9))
            video = photograph(video, dice, self._source)
        return video, xy, visible, inside, chosen[0]
