"""What is known of the queries of a stream, in each frame of the ring and for the frames to come."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from taptrv2_core.geometry import constant, inverse_sigmoid


@dataclass(frozen=True)
class QueryState:
    """State of N queries in the R slots of the ring; ``later_*`` is what frames yet to come take over.

    Attributes:
        start: (B, N) int64, each query's own frame.
        initial: (B, N, C) content feature at that frame.
        content: (B, R, N, C).
        reference: (B, R, N, 4) logits of x, y, w, h.
        visibility: (B, R, N, 3) logits.
        begun: (B, R, N, 4) logits, the reference each frame began with.
        gain: (B, R, N, 1), the network's share in the answer for that frame, see `taptrv2_core.motion`.
        agreement: (B, R, N, 1), of the answer with the search (`taptrv2_core.search`) when the frame was the newest; 0,
            full agreement, where it never was.
    """

    start: Tensor
    initial: Tensor
    content: Tensor
    reference: Tensor
    visibility: Tensor
    begun: Tensor
    gain: Tensor
    agreement: Tensor
    later_content: Tensor
    later_reference: Tensor
    later_visibility: Tensor

    @classmethod
    def begin(cls, start: Tensor, position: Tensor, initial: Tensor, slots: int) -> QueryState:
        """New queries: start (B, N), position (B, N, 2) x, y in [0, 1], initial content (B, N, C)."""
        box = torch.cat((position, torch.full_like(position, 0.5)), dim=-1)
        reference = inverse_sigmoid(box)
        visibility = constant((0.0, 1.0, 0.0), reference).expand(*start.shape, 3)
        content, references, visibilities = (
            t.unsqueeze(1).expand(-1, slots, -1, -1) for t in (initial, reference, visibility)
        )
        gain = torch.ones_like(references[..., :1])
        return cls(
            start, initial, content, references, visibilities, references.contiguous(), gain,
            torch.zeros_like(gain),
            later_content=initial, later_reference=reference, later_visibility=visibility,
        )  # fmt: skip

    def joined(self, other: QueryState) -> QueryState:
        """These queries, then the others."""
        return QueryState(
            *(
                torch.cat((getattr(self, f.name), getattr(other, f.name)), dim=_query_dim(f.name))
                for f in fields(QueryState)
            )
        )

    def kept(self, rows: Tensor) -> QueryState:
        """Only the queries in ``rows`` (n,) int64."""
        return QueryState(*(getattr(self, f.name).index_select(_query_dim(f.name), rows) for f in fields(QueryState)))

    def known_by(self, rows: Tensor, position: Tensor, content: Tensor) -> QueryState:
        """The queries in ``rows`` (n,) int64 have this initial content (B, n, C) instead, and seem to be at position
        (B, n, 2), in all frames; how well the answers agreed that there were stays."""
        new = QueryState.begin(self.start[:, rows], position, content, self.content.shape[1])
        parts = {
            name: getattr(self, name).index_copy(_query_dim(name), rows, getattr(new, name).to(getattr(self, name)))
            for name in (f.name for f in fields(QueryState))
            if name not in ("start", "agreement")
        }
        return replace(self, **parts)

    def starting_at(self, slot: int, position: Tensor, known: Tensor, gain: Tensor) -> QueryState:
        """The frame in ``slot`` begins at position (N, 2) x, y in [0, 1], where known (N,); its ``gain`` (N,)."""
        index = torch.full((1,), slot, device=self.start.device)  # unlike a copy from the host, no wait
        centre = torch.where(known[:, None], inverse_sigmoid(position), self.reference[:, slot, :, :2])
        box = torch.cat((centre, self.reference[:, slot, :, 2:]), dim=-1)
        return replace(
            self,
            reference=self.reference.index_copy(1, index, box.unsqueeze(1)),
            begun=self.begun.index_copy(1, index, box.unsqueeze(1)),
            gain=self.gain.index_copy(1, index, gain[None, None, :, None].to(self.gain)),
        )

    def agreeing(self, slot: int, agreement: Tensor) -> QueryState:
        """The answer for the frame in ``slot`` agrees so well with the search, (B, N, 1)."""
        index = torch.full((1,), slot, device=self.start.device)  # unlike a copy from the host, no wait
        return replace(self, agreement=self.agreement.index_copy(1, index, agreement.unsqueeze(1).to(self.agreement)))

    def entered(self, slot: int) -> QueryState:
        """A new frame in ``slot`` takes over what is known of the newest."""
        index = torch.full((1,), slot, device=self.start.device)  # unlike a copy from the host, no wait
        return replace(
            self,
            content=self.content.index_copy(1, index, self.later_content.unsqueeze(1)),
            reference=self.reference.index_copy(1, index, self.later_reference.unsqueeze(1)),
            visibility=self.visibility.index_copy(1, index, self.later_visibility.unsqueeze(1)),
        )


def _query_dim(name: str) -> int:
    return 2 if name in ("content", "reference", "visibility", "begun", "gain", "agreement") else 1
