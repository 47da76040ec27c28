"""What training asks of the network: positions after every step, visibility, and features that can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from taptrv2_core.geometry import UNIT
from taptrv2_core.training.unroll import Window
from taptrv2_core.window_result import VISIBLE_CLASS

SATURATION = 8.0
"""Pixels of `UNIT` from which on more error counts ever less: points lost anyway would drown the others."""


@dataclass(frozen=True)
class Truth:
    """Ground truth of B clips, T frames, N queries.

    Attributes:
        position: (B, T, N, 2) x, y in [0, 1] of the image; outside it when the point is outside.
        visible: (B, T, N) bool.
        inside: (B, T, N) bool, the point lies inside the image.
        start: (B, N) int64 query frames.
        starts: the first and the last of them, where the host knows them and need not wait for a GPU to tell.
    """

    position: Tensor
    visible: Tensor
    inside: Tensor
    start: Tensor
    starts: tuple[int, int] | None = None


@dataclass(frozen=True)
class LossWeights:
    """How the parts of the loss are weighed against each other."""

    layer_discount: float = 0.8
    hidden: float = 0.25
    """Position of a point that cannot be seen, against one that can."""
    newest: float = 2.0
    """The newest frame of a window, whose answer a stream publishes, against its other frames."""
    visibility: float = 1.0
    hidden_label: float = 1.0
    """A hidden point in the visibility loss, against a visible one."""
    position: float = 0.2
    """One pixel of position error, against one nat of visibility."""


def track_loss(windows: Sequence[Window], truth: Truth, weights: LossWeights) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over windows of position and visibility loss; also its parts, detached, for the log."""
    moved, boxed, seen = [], [], []
    for window in windows:
        visible = truth.visible[:, window.frames]
        updated = window.updated.squeeze(-1)
        focus = updated.float()
        focus[:, -1] *= weights.newest
        place = focus * truth.inside[:, window.frames] * torch.where(visible, 1.0, weights.hidden)
        target = truth.position[:, window.frames]
        label = focus * torch.where(visible, 1.0, weights.hidden_label)
        for i, layer in enumerate(window.layers):
            scale = weights.layer_discount ** (len(window.layers) - 1 - i)
            moved.append(scale * _position_error(layer.moved, target, place))
            boxed.append(scale * _position_error(layer.reference[..., :2].sigmoid(), target, place))
            seen.append(scale * _visibility_error(layer.visibility[..., VISIBLE_CLASS], visible, label))
    parts = {"moved": _mean(moved), "boxed": _mean(boxed), "visibility": _mean(seen)}
    total = weights.position * (parts["moved"] + parts["boxed"]) + weights.visibility * parts["visibility"]
    return total, {name: value.detach() for name, value in parts.items()}


def start_positions(truth: Truth) -> Tensor:
    """(B, N, 2): the true position of each query at its own frame."""
    index = truth.start[:, None, :, None].expand(-1, 1, -1, 2)
    return truth.position.gather(1, index).squeeze(1)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def _position_error(position: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    error = F.smooth_l1_loss(position * UNIT, target * UNIT, reduction="none").sum(-1)
    error = SATURATION * torch.log1p(error / SATURATION)
    return (error * weight).sum() / weight.sum().clamp(min=1)


def _visibility_error(logits: Tensor, visible: Tensor, weight: Tensor) -> Tensor:
    error = F.binary_cross_entropy_with_logits(logits.float(), visible.float(), reduction="none")
    return (error * weight).sum() / weight.sum().clamp(min=1)
