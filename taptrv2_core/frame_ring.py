"""The newest frames of a stream, as the decoder reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from taptrv2_core.fast.decoder import KeptLayer
from taptrv2_core.model import Memory, Taptr
from taptrv2_core.window import Frames

MOST_BYTES = {"cuda": 11 * 2**26}
"""Keys and values are kept of as many layers as fit into this: all of `small`'s, 4 of 5 of the published network's in
half precision at 512 x 512. The others' are made anew in every window: hardly any memory, and little time on a GPU."""


class FrameRing:
    """The last R frames: frame t in slot t % R. Keys and values are made once a frame, where the decoder needs them and
    there is room for them.

    Args:
        model: the network.
    """

    def __init__(self, model: Taptr) -> None:
        self.model = model
        self.slots = model.config.window
        self.frame = -1
        self._memory: list[Memory] = []
        self._key_values: list[Tensor] | None = None  # of the first layers, (R, S, M, 2, D)
        self._tokens: Tensor | None = None  # (R, S, C), if there are other layers
        self._kept = KeptLayer()
        self._projected = [-1] * self.slots  # of which frame a slot has keys and values

    @property
    def held(self) -> range:
        """Numbers of the frames held, oldest first."""
        return range(max(0, self.frame + 1 - self.slots), self.frame + 1)

    def fresh(self) -> FrameRing:
        """A ring without frames, in this one's buffers: no slot is read before it is written. This one is not to be
        used any more."""
        ring = FrameRing(self.model)
        ring._key_values, ring._tokens = self._key_values, self._tokens
        return ring

    def push(self, memory: Memory) -> None:
        """Take in the next frame, memory of B = 1, in the place of the oldest."""
        self.frame += 1
        if self.frame < self.slots:
            self._memory.append(memory)
        else:
            self._memory[self.frame % self.slots] = memory

    def memory(self, frame: int) -> Memory:
        """Memory of a frame that is held."""
        if frame not in self.held:
            raise ValueError(f"frame {frame} is not held; the ring holds {self.held}")
        return self._memory[frame % self.slots]

    def replace(self, frame: int, memory: Memory) -> None:
        """Put another memory in the place of a held frame's."""
        self.memory(frame)
        self._memory[frame % self.slots] = memory
        self._projected[frame % self.slots] = -1

    def frames(self) -> Frames:
        """All frames held, in the order of their slots."""
        shapes = self._memory[0].level_shapes
        if self.model.transformer.decoder.reads_memory:
            return Frames(shapes, memories=[memory.tokens for memory in self._memory], kept=self._kept)
        if self._key_values is None:
            self._key_values = self._make_room(self._memory[0].tokens)
        self._project(self._key_values)
        count = len(self._memory)
        tokens = None if self._tokens is None else self._tokens[:count]
        return Frames(shapes, self._key_values, torch.arange(count, device=self.model.device), tokens=tokens)

    def _make_room(self, like: Tensor) -> list[Tensor]:
        config = self.model.config
        shape = (self.slots, like.shape[1], config.heads, 2, config.head_channels)
        layer_bytes = 2 * self.slots * like.nbytes
        most = MOST_BYTES.get(like.device.type)
        layers = config.decoder_layers if most is None else min(config.decoder_layers, most // layer_bytes)
        if layers < config.decoder_layers:
            self._tokens = like.new_zeros(self.slots, *like.shape[1:])
        return [like.new_zeros(shape) for _ in range(layers)]

    def _project(self, key_values: list[Tensor]) -> None:
        """Make the keys and values that are missing; put memory where it is read."""
        for frame in self.held:
            slot = frame % self.slots
            if self._projected[slot] != frame:
                memory = self._memory[slot]
                self.model.project_into(memory, key_values, slot)
                if self._tokens is not None:
                    self._tokens[slot] = memory.tokens[0]
                    self._memory[slot] = Memory(self._tokens[slot : slot + 1], memory.level_shapes)
                self._projected[slot] = frame
