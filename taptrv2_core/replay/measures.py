"""All figures of one recording: with ground truth where there is some, and those that need none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation import stability
from taptrv2_core.evaluation.easy_points import agreement
from taptrv2_core.evaluation.metrics import THRESHOLDS, position_errors, tapvid_metrics
from taptrv2_core.evaluation.palindrome import ForwardBackward
from taptrv2_core.evaluation.tracking import Bools, Floats, Ints, TrackResult
from taptrv2_core.replay.figures import MEANINGS, Figures
from taptrv2_core.replay.truth import Truth


@dataclass(frozen=True)
class PointFigures:
    """One point of a recording, for tables and plots. Not finite where it never happened or is not known.

    ``query_frame`` is -1 of a reference's point, and only ``visible_share`` is known of it.
    ``seconds_to_loss`` is of the truth; ``median_error`` is in pixels of the recording.
    """

    id: int
    query_frame: int
    visible_share: float
    seconds_to_hidden: float
    lk_median_distance: float
    median_error: float
    seconds_to_loss: float


@dataclass(frozen=True)
class Judged:
    """Tracks of N points in T images with all that is judged by.

    Attributes:
        ids, query_frame: (N,).
        end: (N,) the first image in which a point was forgotten, T if none.
        xy: (T, N, 2) pixels; at and before the query, the query; of a forgotten point, where it was last; NaN of one of
            a reference until it is found.
        visible: (T, N), False before the query and of forgotten points.
        easy_xy: (T, N, 2), LK's position where the point is easy, else NaN.
        seconds: (T,) from the first image.
        frame_size: (height, width).
        truth: of the same points in the same order, or None.
        reference: (N,), points of references: nobody asked for them in an image; ``query_frame`` is the first.
    """

    ids: Ints
    query_frame: Ints
    end: Ints
    xy: Floats
    visible: Bools
    easy_xy: Floats
    seconds: NDArray[np.float64]
    frame_size: tuple[int, int]
    truth: Truth | None
    reference: Bools

    def of(self, chosen: Bools) -> Judged:
        """Some of the points (N,)."""
        return replace(
            self,
            ids=self.ids[chosen],
            query_frame=self.query_frame[chosen],
            end=self.end[chosen],
            xy=self.xy[:, chosen],
            visible=self.visible[:, chosen],
            easy_xy=self.easy_xy[:, chosen],
            truth=self.truth and self.truth.of(chosen),
            reference=self.reference[chosen],
        )

    @property
    def tracked(self) -> Bools:
        """(T, N): the images there are tracks in, the query's included."""
        return stability.tracked_frames(len(self.xy), self.query_frame, self.end)

    @property
    def after_query(self) -> Bools:
        """(T, N): the images that count where there is no truth."""
        return self.tracked & np.not_equal(np.arange(len(self.xy))[:, None], self.query_frame)

    @property
    def scored(self) -> Bools:
        """(T, N): truly visible, annotated, after the query; whoever forgot the point has lost it."""
        assert self.truth is not None
        after = np.greater(np.arange(len(self.xy))[:, None], self.query_frame)
        return after & self.truth.visible & self.truth.annotated

    def errors(self) -> NDArray[np.float64]:
        """(T, N) distance from the truth in pixels of the recording; NaN where not scored."""
        assert self.truth is not None
        distance = np.linalg.norm(self.xy.astype(np.float64) - self.truth.xy, axis=-1)
        return np.where(self.scored, distance, np.nan)

    def errors_at_256(self) -> NDArray[np.float64]:
        """(T, N) the same in pixels at 256 x 256, the metrics' unit."""
        assert self.truth is not None
        return np.where(self.scored, position_errors(self.xy, self.truth.xy, self.frame_size), np.nan)

    def loss_seconds(self) -> NDArray[np.float64]:
        """(N,) seconds from the query to the first loss; infinite where there is none."""
        assert self.truth is not None
        lost = stability.lost_frames(self.xy, self.truth.xy, self.scored, self.query_frame, self.frame_size)
        return stability.durations(lost, self.query_frame, self.seconds)

    def hidden_seconds(self) -> NDArray[np.float64]:
        """(N,) seconds from the query until the tracker first says hidden; infinite where it never does."""
        hidden = stability.hidden_frames(self.visible, self.query_frame, self.end)
        return stability.durations(hidden, self.query_frame, self.seconds)


def measure(judged: Judged, forward_backward: ForwardBackward | None) -> Figures:
    """All sections there is something for; names as in ``MEANINGS``."""
    figures: Figures = {}
    asked, sought = judged.of(~judged.reference), judged.of(judged.reference)
    if len(sought.ids):
        figures["references"] = _of_references(sought)
    if asked.truth is not None:
        figures["ground_truth"] = _against_truth(asked, asked.truth)
    if len(asked.ids):
        figures["steadiness"] = _steadiness(asked)
    if forward_backward is not None:
        figures["forward_backward"] = _spread_out(asdict(forward_backward))
    if len(asked.ids):
        easy = agreement(asked.xy, asked.visible, asked.easy_xy, asked.after_query)
        figures["lk_agreement"] = _spread_out(asdict(easy))
    return figures


def point_figures(judged: Judged) -> list[PointFigures]:
    """Figures point by point, in the order of the points."""
    after, hidden = judged.after_query, np.where(judged.reference, math.nan, judged.hidden_seconds())
    distance = np.where(after, np.linalg.norm(judged.xy - judged.easy_xy, axis=-1), np.nan)
    count = len(judged.ids)
    errors = judged.errors() if judged.truth is not None else np.full((1, count), np.nan)
    lost = judged.loss_seconds() if judged.truth is not None else np.full(count, np.nan)
    return [
        PointFigures(
            int(judged.ids[i]),
            -1 if judged.reference[i] else int(judged.query_frame[i]),
            float(judged.visible[after[:, i], i].mean()) if after[:, i].any() else math.nan,
            float(hidden[i]),
            _median(distance[:, i]),
            _median(errors[:, i]),
            float(lost[i]),
        )
        for i in range(count)
    ]


def _of_references(sought: Judged) -> dict[str, float]:
    found = sought.visible.any(0)
    seconds = stability.durations(stability.first_frames(sought.visible), sought.query_frame, sought.seconds)
    return {
        "points": float(len(sought.ids)),
        "found": float(found.mean()),
        "seconds_to_first_found": _median(seconds),
        "visible_share": float(sought.visible.mean()),
        "visibility_changes": stability.flicker(sought.visible, sought.query_frame).changes,
    }


def _against_truth(judged: Judged, truth: Truth) -> dict[str, float]:
    result = TrackResult(judged.xy, judged.visible)
    metrics = tapvid_metrics(
        result, truth.xy, truth.visible, judged.query_frame, judged.frame_size, "first", truth.annotated
    )
    loss = judged.loss_seconds()
    names = [name for name in MEANINGS["ground_truth"] if hasattr(metrics, name)]
    return {
        **{name: getattr(metrics, name) for name in names},
        "lost_points": float(np.isfinite(loss).sum()),
        "seconds_to_first_loss": _median(loss),
    }


def _steadiness(judged: Judged) -> dict[str, float]:
    if judged.truth is not None:
        static = stability.static_points(judged.truth.xy, judged.scored, judged.query_frame)
    else:
        easy = np.asarray(np.isfinite(judged.easy_xy).all(-1), dtype=np.bool_)
        static = stability.static_points(judged.easy_xy, easy, judged.query_frame)
        static &= (easy | ~judged.after_query).all(0)  # one that was lost on the way may have moved since
    jitter = stability.jitter(judged.xy, judged.visible, judged.query_frame, static)
    flicker = stability.flicker(judged.visible, judged.query_frame, judged.end)
    hidden, after = judged.hidden_seconds(), judged.after_query
    return {
        "static_points": float(jitter.points),
        "jitter_step": jitter.step,
        "jitter_spread": jitter.spread,
        "visibility_changes": flicker.changes,
        "short_runs": float(flicker.short_runs),
        "visible_share": float(judged.visible[after].mean()) if after.any() else math.nan,
        "never_hidden": float((~np.isfinite(hidden)).sum()),
        "seconds_to_first_hidden": _median(hidden),
    }


def _spread_out(values: dict[str, float | tuple[float, ...]]) -> dict[str, float]:
    """``within`` of five thresholds becomes five figures."""
    figures: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            figures |= {f"{name}_{t:g}": v for t, v in zip(THRESHOLDS, value, strict=True)}
        else:
            figures[name] = float(value)
    return figures


def _median(values: NDArray[np.floating]) -> float:
    """Of the finite ones."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
