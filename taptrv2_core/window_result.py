"""What a window answers, and what becomes of the queries' state with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from taptrv2_core.model import Taptr
from taptrv2_core.query_state import QueryState

VISIBLE_CLASS = 1


@dataclass(frozen=True)
class WindowResult:
    """A window's answer, frames in slot order.

    Attributes:
        reference: (B, F, N, 4) logits of x, y, w, h; the state's own where a query is not updated.
        visibility: (B, F, N, 3) logits, likewise.
        hidden: (B, F, N, C) the decoder's last feature.
    """

    reference: Tensor
    visibility: Tensor
    hidden: Tensor

    @property
    def position(self) -> Tensor:
        """(B, F, N, 2) x, y in [0, 1]."""
        return self.reference[..., :2].sigmoid()


def committed(
    model: Taptr, state: QueryState, result: WindowResult, updated: Tensor, newest: int, takeover: bool
) -> QueryState:
    """The state after a committing window over all slots.

    Args:
        updated: (B, R, N, 1) bool, pairs the window may change.
        newest: slot of the newest frame, which later frames take over from.
        takeover: whether they take over its content too.
    """
    initial = state.initial.unsqueeze(1).expand_as(state.content)
    change = model.content_update(initial, state.content, result.hidden)
    if model.training:
        change = torch.nn.functional.dropout(change, 0.6)
    content = state.content + updated * change
    return replace(
        state,
        content=content,
        reference=result.reference,
        visibility=result.visibility,
        later_content=content[:, newest] if takeover else state.later_content,
        later_reference=result.reference[:, newest],
        later_visibility=result.visibility[:, newest],
    )
