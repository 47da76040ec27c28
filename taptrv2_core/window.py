"""What the decoder is given of a window, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from taptrv2_core.encoder import LevelShapes
from taptrv2_core.fast.decoder import KeptLayer

EVERY = slice(None)


@dataclass(frozen=True)
class Masks:
    """Which of a window's (frame, query) pairs take part.

    Attributes:
        updated: (B, F, N, 1) bool: the frame is later than the query's own; others keep their reference.
        frames: (B, N, F, F) bool or None: which frames of a query attend each other; None: all.
        queries: (B, F, N, N) bool or None: which queries of a frame attend each other; None: all.
        tracked: (B, F, N) bool or None: what the two are made of, those that attend each other being equal in it.
    """

    updated: Tensor
    frames: Tensor | None
    queries: Tensor | None
    tracked: Tensor | None = None

    @classmethod
    def build(cls, frames: Tensor, start: Tensor, all_tracked: bool = False) -> Masks:
        """frames (F,) or (B, F): their numbers; start (B, N): query frames; all_tracked: every query began before."""
        frames = frames.expand(start.shape[0], -1).unsqueeze(-1)
        start = start.unsqueeze(1)
        updated = (frames > start).unsqueeze(-1)
        if all_tracked:
            return cls(updated, None, None)
        tracked = frames >= start
        by_query = tracked.transpose(1, 2)
        return cls(
            updated,
            by_query.unsqueeze(-1) == by_query.unsqueeze(-2),
            tracked.unsqueeze(-1) == tracked.unsqueeze(-2),
            tracked,
        )

    def additive(self, dtype: torch.dtype) -> Masks:
        """With 0 and -inf in place of true and false: what a GPU's attention would make of them at every call."""
        frames, queries = (
            None if mask is None else torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)
            for mask in (self.frames, self.queries)
        )
        return replace(self, frames=frames, queries=queries)


@dataclass(frozen=True)
class Frames:
    """What the decoder reads of a window's F frames: keys and values, or memory.

    Attributes:
        level_shapes: (height, width) of each level, finest first.
        key_values: of each layer, or of the first ones, (R, S, M, 2, D), frames that are held.
        tokens: (F, S, C) memory of the window's frames, of which the other layers make keys and values; B is 1 then.
        slots: (B * F,) int64, which of the R each frame of the window is.
        memories: of each frame (1, S, C), for a decoder that `reads_memory`; then B is 1.
        kept: of the stream, likewise.
    """

    level_shapes: LevelShapes
    key_values: Sequence[Tensor] = ()
    slots: Tensor | None = None
    memories: Sequence[Tensor] = ()
    kept: KeptLayer | None = None
    tokens: Tensor | None = None

    def of_layer(self, layer: int) -> Tensor:
        """What a layer attends: keys and values (R, S, M, 2, D), or memory (F, S, C)."""
        if layer < len(self.key_values):
            return self.key_values[layer]
        assert self.tokens is not None
        return self.tokens


@dataclass(frozen=True)
class LayerOutput:
    """What one decoder layer says.

    Attributes:
        moved: (B, F, N, 2) position in [0, 1] after the attention-based position update.
        reference: (B, F, N, 4) logits of x, y, w, h after the box head.
        visibility: (B, F, N, 3) logits; class 1 is "visible".
        hidden: (B, F, N, C) the feature the heads read.
    """

    moved: Tensor
    reference: Tensor
    visibility: Tensor
    hidden: Tensor
