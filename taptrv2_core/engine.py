"""The sliding window: a ring of frames, the state of the queries, committing and provisional windows.

One engine serves the stream and whole videos. A window is always the whole ring: the last min(8, t + 1) frames, in
the order of their slots (no part of the decoder depends on the order of frames). Frames are numbered from 0; frame t
lives in slot t % 8.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taptrv2_core.fast.cuda_graphs import WindowGraphs
from taptrv2_core.flow import FlowImage
from taptrv2_core.frame_ring import FrameRing
from taptrv2_core.geometry import constant
from taptrv2_core.lookout import Lookout
from taptrv2_core.model import Memory, Taptr
from taptrv2_core.motion import MotionPrior, Prediction, filtered
from taptrv2_core.query_state import QueryState
from taptrv2_core.search import Asked, Search
from taptrv2_core.views import Views
from taptrv2_core.window import EVERY, Masks
from taptrv2_core.window_result import VISIBLE_CLASS, WindowResult, committed

LEAST_AT_REST = (-float("inf"), 3.0, -float("inf"))
"""Least logits of a point that rests where it was seen: it is visible."""


class SlidingWindow:
    """Ring of frames and query state of one stream.

    Args:
        model: the network, shared between streams.
        takeover_interval: g: content goes over to later frames after every g-th committing window.
    """

    def __init__(self, model: Taptr, takeover_interval: int = 1) -> None:
        if takeover_interval < 1:
            raise ValueError(f"takeover_interval is {takeover_interval}; it must be at least 1")
        self.model = model
        self.takeover_interval = takeover_interval
        self.slots = model.config.window
        self.state: QueryState | None = None
        self._starts: list[int] = []
        # State before the newest frame's commit, and whether queries have joined it since: then it commits again.
        self._before: QueryState | None = None
        self._stale = False
        self._motion = MotionPrior(model.host_refiner(), self.slots) if model.config.motion == "flow" else None
        self._asked: tuple[Tensor, Asked] | None = None  # of these initial contents
        self._lookout = Lookout()
        self._ring = FrameRing(model)
        self._graphs = WindowGraphs(model)

    @property
    def frame(self) -> int:
        """Number of the newest frame; -1 before the first."""
        return self._ring.frame

    @property
    def held(self) -> range:
        """Numbers of the frames in the ring, oldest first."""
        return self._ring.held

    @property
    def queries(self) -> int:
        """How many queries there are."""
        return len(self._starts)

    @property
    def starts(self) -> tuple[int, ...]:
        """Each query's own frame."""
        return tuple(self._starts)

    @property
    def commits(self) -> bool:
        """Whether the newest frame is one at which a window commits: frames 7, 11, 15, ..."""
        stride = self.slots // 2
        return self.frame >= self.slots - 1 and (self.frame + 1) % stride == 0

    def fresh(self) -> SlidingWindow:
        """A window with nothing in it, in this one's buffers: they are most of its memory, and no slot is read before
        it is written. This one is not to be used any more."""
        window = SlidingWindow(self.model, self.takeover_interval)
        window._ring, window._graphs = self._ring.fresh(), self._graphs
        return window

    def push(self, image: Tensor, flow_image: FlowImage | None = None) -> None:
        """Take in a frame: (3, H, W) RGB in [0, 1]; every frame of a stream has the same size. ``flow_image``: of it as
        it was before it was resized, if it was and the network uses flow."""
        if self._motion is not None and flow_image is None:
            flow_image = FlowImage.of_input(image)
        self.push_memory(self.model.encode(image.unsqueeze(0)), flow_image)

    def push_memory(self, memory: Memory, flow_image: FlowImage | None = None) -> None:
        """Take in a frame that is encoded already, memory of B = 1; flow_image: of it, if the network uses flow."""
        if self._stale:
            self.commit()
        self._before = None
        self._ring.push(memory)
        slot = self.frame % self.slots
        if self.state is not None:
            self.state = self.state.entered(slot)
        if self._motion is not None and flow_image is not None:
            self._begin(slot, self._motion.enter(flow_image))

    def _begin(self, slot: int, prediction: Prediction) -> None:
        """The newest frame begins where it is predicted; points that flow has lost, where the search finds them."""
        if self.state is None:
            return
        prediction = self._redrawn(prediction)
        position = prediction.position.to(self.state.reference)
        lost = (prediction.known & (prediction.gain == 1)).nonzero().flatten().to(position.device)
        if self.model.search is not None and len(lost):
            memory, asked = self.memory(self.frame), self._ask(self.model.search, self.state).kept(lost)
            found = self.model.search.find(memory.tokens, memory.level_shapes, asked, position[None, lost])[0]
            position = position.index_copy(0, lost, found)
        known, gain = (t.to(position.device) for t in (prediction.known, prediction.gain))
        self.state = self.state.starting_at(slot, position, known, gain)

    def _redrawn(self, prediction: Prediction) -> Prediction:
        """A reference of which points are lost, and that is found in another view, is known by that from now on."""
        if self._motion is None or self.model.search is None or self.state is None:
            return prediction
        lost = (prediction.known & (prediction.gain == 1)).numpy()
        found = self._lookout.look(self.model, self.memory(self.frame), lost, prediction.position)
        if found is None:
            return prediction
        rows, drawn = found
        index = torch.from_numpy(rows)
        position = drawn.position[torch.from_numpy(drawn.inside).to(drawn.position.device)]
        content = drawn.content(self.model, drawn.inside)
        self.state = self.state.known_by(index.to(position.device), position[None], content)
        assert drawn.image.flow_image is not None
        return self._motion.known_by(index, position, drawn.image.flow_image)

    def memory(self, frame: int) -> Memory:
        """Of a frame that is held."""
        return self._ring.memory(frame)

    def replace_memory(self, frame: int, memory: Memory) -> None:
        """Put another memory in the place of a held frame's; what was made of the old one is made anew."""
        self._ring.replace(frame, memory)

    def add(self, position: Tensor, frame: int) -> None:
        """Add queries: position (N, 2) x, y in [0, 1] at a frame that is held.

        Where the newest frame's window has committed already, it does so again before the next frame, with them in it.
        """
        position = position.to(self.model.device, self.model.position_dtype)
        self._join(self._queries(position, frame, self.memory(frame)), frame)
        if self._motion is not None:
            self._motion.add(position, age=self.frame - frame)

    def add_reference(
        self, position: Tensor, memory: Memory, flow_image: FlowImage | None, views: Views | None = None
    ) -> None:
        """Add queries of an image that is none of the stream's: position (N, 2) x, y in [0, 1] in it, its memory of
        B = 1, and flow_image, if the network uses flow; ``views``: in which they are looked for while they are lost.

        It counts as a frame before those held. In each of these they begin where the search finds them.
        """
        position, frame = position.to(self.model.device, self.model.position_dtype), self.held[0] - 1
        new, found, search = self._queries(position, frame, memory), position, self.model.search
        asked = None if search is None else search.ask(new.initial)
        all_known = torch.ones(len(position), dtype=torch.bool, device=self.model.device)
        for held in self.held:
            if search is not None and asked is not None:
                now = self.memory(held)
                found = search.find(now.tokens, now.level_shapes, asked, found[None].to(new.reference))[0]
            new = new.starting_at(held % self.slots, found.to(new.reference), all_known, all_known.double())
        if views is not None:
            self._lookout.add(views, self.queries)
        self._join(new, frame)
        if self._motion is not None and flow_image is not None:
            self._motion.add_reference(position, flow_image, found)

    def _queries(self, position: Tensor, frame: int, memory: Memory) -> QueryState:
        """New queries at position (N, 2) in a frame with this memory."""
        position = position.unsqueeze(0)
        start = torch.full(position.shape[:2], frame, dtype=torch.int64, device=position.device)
        return QueryState.begin(start, position, self.model.initial_content(memory, position), self.slots)

    def _join(self, new: QueryState, frame: int) -> None:
        """From now on there are these queries of a frame, too."""
        if self._before is not None:
            self._before = self.state = self._before.joined(new)
            self._stale = True
        else:
            self.state = new if self.state is None else self.state.joined(new)
        self._starts += [frame] * new.start.shape[1]

    def keep(self, rows: list[int]) -> None:
        """Keep only the queries in these rows."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.model.device)
        self.state = self.state.kept(index) if self.state is not None and rows else None
        self._before = self._before.kept(index) if self._before is not None and rows else None
        self._stale = self._stale and self._before is not None
        self._starts = [self._starts[row] for row in rows]
        self._lookout.keep(np.asarray(rows, dtype=np.int64))
        if self._motion is not None:
            self._motion.keep(index)

    def run(self, newest_only: bool = False) -> WindowResult | None:
        """The window over the ring, which is not committed; None when there is no query.

        Where no query is updated (all start at the newest frame) the result is the state itself. ``newest_only``: the
        result is of one frame, the newest, which saves work.
        """
        if self.state is None or self.frame < 0:
            return None
        newest = self.frame % self.slots
        return self._window(self.state, slice(newest, newest + 1) if newest_only else EVERY)[0]

    def commit(self) -> WindowResult | None:
        """The committing window: its result becomes the state. Call it exactly when `commits` is true."""
        if self.state is None:
            return None
        self._before, self._stale = self.state, False
        result, updated = self._window(self.state)
        if updated is not None:
            index = (self.frame + 1 - self.slots) // (self.slots // 2)
            takeover = index % self.takeover_interval == 0
            self.state = committed(self.model, self.state, result, updated, self.frame % self.slots, takeover)
        return result

    def _window(self, state: QueryState, wanted: slice = EVERY) -> tuple[WindowResult, Tensor | None]:
        """Run the decoder over the ring, for an answer in the slots wanted; also which pairs of all were updated, None
        if none was."""
        count = len(self.held)
        content, reference, visibility = (t[:, :count] for t in (state.content, state.reference, state.visibility))
        if min(self._starts) >= self.frame:
            self._answered(reference[:, wanted], visibility[:, wanted], wanted)
            return WindowResult(reference[:, wanted], visibility[:, wanted], content[:, wanted]), None
        numbers = self.frame - (self.frame - torch.arange(count, device=self.model.device)) % self.slots
        updated = Masks.build(numbers, state.start, all_tracked=True).updated[:, wanted]
        frames, newest = self._ring.frames(), self.frame % self.slots
        last = self._graphs.decode(content, reference, frames, state.start, numbers, newest, wanted != EVERY)
        if last is None:
            masks = Masks.build(numbers, state.start, all_tracked=max(self._starts) <= self.held[0])
            last = self.model.decode(content, reference, frames, masks, wanted)[-1]
        moved, seen = last.reference, torch.where(updated, last.visibility, visibility[:, wanted])
        if self._motion is not None:
            begun, gain = (t[:, :count][:, wanted] for t in (state.begun, state.gain))
            moved = filtered(begun, moved, gain)
            seen = torch.where(updated & (gain == 0), seen.maximum(constant(LEAST_AT_REST, seen)), seen)
        self._answered(moved, seen, wanted)
        if self.model.search is not None:
            seen = torch.where(updated, self._doubted(self.model.search, moved, seen, wanted), seen)
        return WindowResult(moved, seen, last.hidden), updated

    def _answered(self, reference: Tensor, visibility: Tensor, wanted: slice) -> None:
        """Tell the motion prior the newest frame's answer: flow follows what the network itself takes for visible."""
        if self._motion is not None:
            newest = self._place(wanted)
            visible = visibility[0, newest, :, VISIBLE_CLASS] > 0
            self._motion.answer(reference[0, newest, :, :2].sigmoid(), visible)

    def _doubted(self, search: Search, reference: Tensor, visibility: Tensor, wanted: slice) -> Tensor:
        """A window's visibility in the light of how well the answer for the newest frame agrees with the search, and
        those for the others did when they were the newest."""
        assert self.state is not None
        memory, position = self.memory(self.frame), reference[:, self._place(wanted), :, :2].sigmoid()
        asked = self._ask(search, self.state)
        agreement = search.agreement(memory.tokens, memory.level_shapes, asked, position)
        if self._motion is not None:
            own = visibility[0, self._place(wanted), :, VISIBLE_CLASS]
            agreement = self._motion.judged(search, own, agreement[0, :, 0])[None, :, None]
        self.state = self.state.agreeing(self.frame % self.slots, agreement)
        before, own, after = visibility.split((VISIBLE_CLASS, 1, 2 - VISIBLE_CLASS), dim=-1)
        logit = search.seen(own, self.state.agreement[:, : len(self.held)][:, wanted])
        return torch.cat((before, logit, after), dim=-1)

    def _ask(self, search: Search, state: QueryState) -> Asked:
        """What the search looks for, made anew when the queries are others."""
        if self._asked is None or self._asked[0] is not state.initial:
            self._asked = (state.initial, search.ask(state.initial))
        return self._asked[1]

    def _place(self, wanted: slice) -> int:
        """Where an answer in the slots wanted, all or the newest, has the newest frame."""
        return self.frame % self.slots if wanted == EVERY else 0
