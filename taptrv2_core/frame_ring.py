"""The newest frames of a stream, as the decoder reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from taptrv2_core.decoder import Frames
from taptrv2_core.model import Memory, Taptr


class FrameRing:
    """The last R frames: frame t in slot t % R. Keys and values are made once a frame, where the decoder needs them.

    Args:
        model: the network.
    """

    def __init__(self, model: Taptr) -> None:
        self.model = model
        self.slots = model.config.window
        self.frame = -1
        self._memory: list[Memory] = []
        self._key_values: list[Tensor] = []  # of each layer, (R, S, M, 2, D)
        self._projected = [-1] * self.slots  # of which frame a slot has keys and values

    @property
    def held(self) -> range:
        """Numbers of the frames held, oldest first."""
        return range(max(0, self.frame + 1 - self.slots), self.frame + 1)

    def fresh(self) -> FrameRing:
        """A ring without frames, in this one's buffers: no slot is read before it is written. This one is not to be
        used any more."""
        ring = FrameRing(self.model)
        ring._key_values = self._key_values
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
            return Frames(shapes, memories=[memory.tokens for memory in self._memory])
        self._project()
        slots = torch.arange(len(self._memory), device=self.model.device)
        return Frames(shapes, self._key_values, slots)

    def _project(self) -> None:
        """Make the keys and values that are missing."""
        if not self._key_values:
            config, tokens = self.model.config, self._memory[0].tokens
            shape = (self.slots, tokens.shape[1], config.heads, 2, config.head_channels)
            self._key_values = [tokens.new_zeros(shape) for _ in range(config.decoder_layers)]
        for frame in self.held:
            slot = frame % self.slots
            if self._projected[slot] != frame:
                self.model.project_into(self._memory[slot], self._key_values, slot)
                self._projected[slot] = frame
