"""Where the errors are: by displacement from the query, by visibility, after a disappearance.

Unlike the metrics, these are pooled over all points of all videos, since one video may have none of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from taptrv2_core.evaluation.metrics import THRESHOLDS, evaluated_frames, position_errors, to_metric_pixels
from taptrv2_core.evaluation.samples import Sample
from taptrv2_core.evaluation.tracking import Bools, TrackResult

DISPLACEMENT_EDGES = (0.0, 4.0, 16.0, 32.0, float("inf"))
"""Pixels at 256 x 256."""
DISPLACEMENT_GROUPS = ("0-4 px", "4-16 px", "16-32 px", "> 32 px")
GROUPS = (*DISPLACEMENT_GROUPS, "visible", "hidden", "seen again")
"""The displacement groups and "seen again" (visible, hidden at some frame since the query) are parts of "visible"."""


@dataclass
class Tally:
    """Counts of one group of point-frames."""

    flags: int = 0
    """Point-frames whose visibility was scored."""
    right_flags: int = 0
    positions: int = 0
    """Point-frames whose true position is known; of hidden points often none."""
    within: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))

    def add(self, other: Tally) -> None:
        self.flags += other.flags
        self.right_flags += other.right_flags
        self.positions += other.positions
        self.within = [a + b for a, b in zip(self.within, other.within, strict=True)]

    def shares(self) -> dict[str, float]:
        """``delta_avg``, ``within_1``, ``flag_accuracy`` (NaN where there is nothing), ``positions`` and ``flags``."""
        known = self.positions or float("nan")
        return {
            "delta_avg": float(np.mean(self.within)) / known,
            "within_1": self.within[0] / known,
            "flag_accuracy": self.right_flags / (self.flags or float("nan")),
            "positions": self.positions,
            "flags": self.flags,
        }


def breakdown(result: TrackResult, sample: Sample) -> dict[str, Tally]:
    """Counts of each group of ``GROUPS`` for one video."""
    counted = evaluated_frames(len(sample.video), sample.query_frame, sample.query_mode) & sample.scored
    seen = counted & sample.gt_visible
    hidden = counted & ~sample.gt_visible
    moved = to_metric_pixels(sample.gt_xy - sample.query_xy, sample.frame_size)
    displacement = np.sqrt(np.square(moved).sum(-1))
    masks: dict[str, Bools] = {}
    for name, low, high in zip(DISPLACEMENT_GROUPS, DISPLACEMENT_EDGES, DISPLACEMENT_EDGES[1:], strict=False):
        masks[name] = seen & (displacement >= low) & (displacement < high)
    masks |= {"visible": seen, "hidden": hidden, "seen again": seen & _hidden_since_query(sample)}
    error = position_errors(result.xy, sample.gt_xy, sample.frame_size)
    right = result.visible == sample.gt_visible
    known = sample.known | sample.gt_visible
    return {
        name: Tally(
            int(mask.sum()),
            int((mask & right).sum()),
            int((mask & known).sum()),
            [int((mask & known & (error < threshold)).sum()) for threshold in THRESHOLDS],
        )
        for name, mask in masks.items()
    }


def merge(total: dict[str, Tally], video: Mapping[str, Tally]) -> None:
    """Add one video's counts to the total."""
    for name, tally in video.items():
        total.setdefault(name, Tally()).add(tally)


def _hidden_since_query(sample: Sample) -> Bools:
    """(T, N): whether the point was hidden at some scored frame between its query and this one, in either direction."""
    passed = np.cumsum(sample.scored & ~sample.gt_visible, axis=0)
    at_query = np.take_along_axis(passed, sample.query_frame[None], axis=0)
    return np.asarray(passed != at_query, dtype=np.bool_)
