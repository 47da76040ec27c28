"""Clips through the sliding window while training: the windows the tracker runs, batched and differentiable.

The same state rules as `taptrv2_core.engine`, with frames in temporal order instead of ring order: windows at frames
0-7, 4-11, ... commit, and provisional windows at other frames read the state without changing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from taptrv2_core.geometry import inverse_sigmoid
from taptrv2_core.model import Memory, Taptr
from taptrv2_core.query_state import QueryState
from taptrv2_core.window import Frames, LayerOutput, Masks
from taptrv2_core.window_result import WindowResult, committed


@dataclass(frozen=True)
class Window:
    """One window through the decoder.

    Attributes:
        first: number of its first frame.
        layers: one output a decoder layer, over the frames first, first + 1, ...
        updated: (B, F, N, 1) bool, the pairs the window may move.
        result: the last layer's answer, with the state's own values where a pair is not updated.
        commits: whether the state took the result over.
    """

    first: int
    layers: list[LayerOutput]
    updated: Tensor
    result: WindowResult
    commits: bool

    @property
    def frames(self) -> slice:
        """The window's frames in the clip."""
        return slice(self.first, self.first + self.updated.shape[1])


@dataclass(frozen=True)
class Encoded:
    """Memory of B clips of T frames and what each decoder layer reads of it; frame t of clip b is row b * T + t."""

    memory: Memory
    key_values: list[Tensor]
    clips: int
    frames: int

    def rows(self, frames: Tensor) -> Tensor:
        """(F,) frame numbers -> (B * F,) rows."""
        rows = torch.arange(self.clips, device=frames.device)[:, None] * self.frames + frames
        return rows.flatten()

    def window(self, frames: Tensor) -> Frames:
        """What the decoder reads of frames (F,) of each clip."""
        return Frames(self.memory.level_shapes, self.key_values, self.rows(frames))


def encode_clips(model: Taptr, video: Tensor) -> Encoded:
    """video (B, T, 3, H, W) RGB in [0, 1]."""
    memory = model.encode(video.flatten(0, 1))
    return Encoded(memory, model.project(memory), video.shape[0], video.shape[1])


def initial_content(model: Taptr, encoded: Encoded, start: Tensor, position: Tensor) -> Tensor:
    """Content features (B, N, C) of queries: start (B, N) frame, position (B, N, 2) in [0, 1].

    Every frame is sampled at every query and the query's own is kept: little work beside the network's, and one call.
    """
    everywhere = model.initial_content(encoded.memory, position.repeat_interleave(encoded.frames, dim=0))
    everywhere = everywhere.unflatten(0, (encoded.clips, encoded.frames))
    index = start[:, None, :, None].expand(-1, 1, -1, everywhere.shape[-1])
    return everywhere.gather(1, index).squeeze(1)


def commit_ends(frames: int, window: int) -> list[int]:
    """Frames at whose arrival a window commits: 7, 11, 15, ... for windows of 8."""
    return list(range(window - 1, frames, window // 2))


def unroll(
    model: Taptr,
    encoded: Encoded,
    start: Tensor,
    position: Tensor,
    provisional: Sequence[int] = (),
    takeover_interval: int = 1,
    flow: Tensor | None = None,
    starts: tuple[int, int] | None = None,
) -> list[Window]:
    """All committing windows of the clips, and the provisional ones asked for, in the order of their newest frame.

    Args:
        start: (B, N) int64 query frames.
        position: (B, N, 2) x, y in [0, 1] there.
        provisional: newest frames of provisional windows; those where a window commits are left out.
        takeover_interval: g of the engine.
        flow: (B, T, N, 2), by how much optical flow moved a point up to each frame, as a share of the image, 0 until
            its own frame; None: frames take over the position of the newest committed one.
        starts: the first and the last query frame, if the host knows them.

    Returns:
        The windows; those before any query has begun are left out.
    """
    size = model.config.window
    state = QueryState.begin(start, position, initial_content(model, encoded, start, position), size)
    if flow is not None:
        first = flow[:, :size]
        missing = size - first.shape[1]  # a clip shorter than a window
        state = _moved(state, torch.cat((first, first[:, -1:].expand(-1, missing, -1, -1)), dim=1))
    commits = commit_ends(encoded.frames, size)
    newest_state, windows = size - 1, []
    begun, last = starts or (int(start.min()), int(start.max()))
    for newest in sorted({*commits, *(t for t in provisional if t not in commits)}):
        if newest <= begun:
            continue
        ahead = newest - newest_state
        entering = None
        if flow is not None and ahead > 0:
            entering = flow[:, newest_state + 1 : newest + 1] - flow[:, newest_state, None]
        entered = _state_at(state, ahead, entering)
        window = _window(model, encoded, entered, newest, newest in commits, last)
        windows.append(window)
        if window.commits:
            takeover = ((newest + 1 - size) // (size // 2)) % takeover_interval == 0
            state = committed(model, entered, window.result, window.updated, size - 1, takeover)
            newest_state = newest
    return windows


def _moved(state: QueryState, flow: Tensor) -> QueryState:
    """References of the state's frames moved by flow (B, R, N, 2)."""
    return replace(state, reference=_shifted(state.reference, flow))


def _shifted(reference: Tensor, flow: Tensor) -> Tensor:
    """Logits (B, F, N, 4) of boxes whose centre has moved by flow (B, F, N, 2); where it is 0, unchanged."""
    centre = inverse_sigmoid(reference[..., :2].sigmoid() + flow)
    centre = torch.where(flow != 0, centre, reference[..., :2])
    return torch.cat((centre, reference[..., 2:]), dim=-1)


def _state_at(state: QueryState, ahead: int, flow: Tensor | None = None) -> QueryState:
    """The state over the window whose newest frame is ``ahead`` frames after the state's (before it: negative).

    Frames that enter take over ``later_*``, moved by flow (B, ahead, N, 2) if given. Before the first window is full,
    the window has fewer frames.
    """
    if ahead == 0:
        return state
    names = ("content", "reference", "visibility")
    if ahead < 0:
        return replace(state, **{name: getattr(state, name)[:, :ahead] for name in names})
    changed = {}
    for name in names:
        old, later = getattr(state, name), getattr(state, f"later_{name}")
        entering = later.unsqueeze(1).expand(-1, min(ahead, old.shape[1]), -1, -1)
        if name == "reference" and flow is not None:
            entering = _shifted(entering, flow[:, -entering.shape[1] :])
        changed[name] = torch.cat((old[:, ahead:], entering), dim=1)
    return replace(state, **changed)


def _window(model: Taptr, encoded: Encoded, state: QueryState, newest: int, commits: bool, last: int) -> Window:
    """The window that ends at ``newest``; ``last``: the newest query's frame."""
    count = state.reference.shape[1]
    first = newest + 1 - count
    numbers = torch.arange(first, newest + 1, device=state.start.device)
    masks = Masks.build(numbers, state.start, all_tracked=last <= first)
    layers = model.decode(state.content, state.reference, encoded.window(numbers), masks)
    visibility = torch.where(masks.updated, layers[-1].visibility, state.visibility)
    result = WindowResult(layers[-1].reference, visibility, layers[-1].hidden)
    return Window(first, layers, masks.updated, result, commits)
