"""TAP-Vid's metrics (Doersch et al., "TAP-Vid: A Benchmark for Tracking Any Point in a Video", 2022, section 4.2).

All distances are in pixels of a frame scaled to 256 x 256, whatever the video's size and shape. Each metric is computed
over all points of one video; a benchmark's figure is the plain mean over its videos (``average``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation.tracking import Bools, Floats, Ints, TrackResult

QueryMode = Literal["first", "strided"]

THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pixels at 256 x 256."""
METRIC_SIZE = 256
SURVIVAL_DISTANCE = 50.0
"""A track farther than this from the truth is lost; pixels at 256 x 256 (PointOdyssey, Zheng et al. 2023)."""


@dataclass(frozen=True)
class Metrics:
    """Results of one video, or their mean over videos. Shares lie in [0, 1]; NaN where nothing was there to score."""

    average_jaccard: float
    """AJ: mean over the thresholds of true positives / (truly visible + false positives)."""
    delta_avg: float
    """Mean over the thresholds of the share of visible points nearer than the threshold."""
    occlusion_accuracy: float
    """OA: how often the visibility flag is right."""
    always_visible_accuracy: float
    """What OA would be for a method that calls every point visible."""
    jaccard_1: float
    jaccard_2: float
    jaccard_4: float
    jaccard_8: float
    jaccard_16: float
    within_1: float
    within_2: float
    within_4: float
    within_8: float
    within_16: float
    median_error: float
    """Of visible points, pixels at 256 x 256."""
    survival: float
    """Mean over tracks of the share of frames after the query that come before the track is lost."""
    scored: float
    """Point-frames that were scored; in a mean over videos, their mean."""


METRIC_NAMES = tuple(field.name for field in fields(Metrics))


def evaluated_frames(frames: int, query_frame: Ints, query_mode: QueryMode) -> Bools:
    """(T, N): the frames that TAP-Vid scores: after the query ("first"), or all but the query's ("strided")."""
    time = np.arange(frames)[:, None]
    if query_mode == "first":
        return np.greater(time, query_frame[None])
    if query_mode == "strided":
        return np.not_equal(time, query_frame[None])
    raise ValueError(f"query mode {query_mode!r} is not known: use 'first' or 'strided'")


def to_metric_pixels(xy: Floats, frame_size: tuple[int, int]) -> NDArray[np.float64]:
    """Pixels of a frame (height, width) -> pixels of it stretched to 256 x 256; for differences of positions."""
    height, width = frame_size
    return np.asarray(xy, dtype=np.float64) * (METRIC_SIZE / width, METRIC_SIZE / height)


def position_errors(predicted_xy: Floats, true_xy: Floats, frame_size: tuple[int, int]) -> NDArray[np.float64]:
    """(T, N) distances in pixels at 256 x 256; a prediction that is not finite is infinitely wrong."""
    difference = to_metric_pixels(predicted_xy, frame_size) - to_metric_pixels(true_xy, frame_size)
    distance = np.sqrt(np.square(difference).sum(-1))
    return np.where(np.isfinite(distance), distance, np.inf)


def tapvid_metrics(
    result: TrackResult,
    true_xy: Floats,
    true_visible: Bools,
    query_frame: Ints,
    frame_size: tuple[int, int],
    query_mode: QueryMode = "first",
    scored: Bools | None = None,
) -> Metrics:
    """Metrics of one video.

    Args:
        result: xy (T, N, 2) and visible (T, N), as a tracker gave them.
        true_xy: (T, N, 2) pixels x, y; only read where ``true_visible``.
        true_visible: (T, N).
        query_frame: (N,).
        frame_size: (height, width) of the frames that the pixels belong to.
        query_mode: which frames count, see ``evaluated_frames``.
        scored: (T, N), False where nothing is annotated; all of TAP-Vid is.

    Raises:
        ValueError: shapes that do not fit each other, an unknown query mode.
    """
    _check_shapes(result, true_xy, true_visible, query_frame)
    counted = evaluated_frames(len(true_xy), query_frame, query_mode)
    if scored is not None:
        counted = counted & scored
    error = position_errors(result.xy, true_xy, frame_size)
    seen = counted & true_visible
    jaccard, within = {}, {}
    for threshold in THRESHOLDS:
        correct = (error < threshold) & seen
        false_positives = counted & result.visible & ~correct
        within[f"within_{threshold:g}"] = _ratio(correct.sum(), seen.sum())
        # True positives plus false negatives are all visible points, however they were predicted.
        positives = seen.sum() + false_positives.sum()
        jaccard[f"jaccard_{threshold:g}"] = _ratio((correct & result.visible).sum(), positives)
    return Metrics(
        average_jaccard=float(np.mean(list(jaccard.values()))),
        delta_avg=float(np.mean(list(within.values()))),
        occlusion_accuracy=_ratio(((result.visible == true_visible) & counted).sum(), counted.sum()),
        always_visible_accuracy=_ratio(seen.sum(), counted.sum()),
        **jaccard,
        **within,
        median_error=float(np.median(error[seen])) if seen.any() else float("nan"),
        survival=_survival(error, seen, query_frame),
        scored=float(counted.sum()),
    )


def average(videos: Sequence[Metrics]) -> Metrics:
    """Mean over videos, as TAP-Vid reports it; a video with nothing to score for a metric is left out of it."""
    if not videos:
        raise ValueError("no videos were evaluated, so there is no average")
    table = np.array([[getattr(video, name) for name in METRIC_NAMES] for video in videos], dtype=np.float64)
    known = np.isfinite(table)
    means = [float(table[known[:, i], i].mean()) if known[:, i].any() else float("nan") for i in range(table.shape[1])]
    return Metrics(*means)


def _ratio(part: np.integer, whole: np.integer) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _survival(error: NDArray[np.float64], seen: Bools, query_frame: Ints) -> float:
    """Frames after the query until a visible point is first lost, over all frames after the query; mean over tracks."""
    frames = len(error)
    time = np.arange(frames)[:, None]
    lost = seen & (time > query_frame[None]) & (error > SURVIVAL_DISTANCE)
    end = np.where(lost.any(0), lost.argmax(0), frames)
    tracks = query_frame < frames - 1
    share = (end - query_frame - 1)[tracks] / (frames - 1 - query_frame)[tracks]
    return float(share.mean()) if share.size else float("nan")


def _check_shapes(result: TrackResult, true_xy: Floats, true_visible: Bools, query_frame: Ints) -> None:
    if true_xy.ndim != 3 or true_xy.shape[2] != 2:
        raise ValueError(f"true positions must be (T, N, 2), got {true_xy.shape}")
    frames, points = true_xy.shape[:2]
    expected = {
        "predicted positions": (result.xy.shape, (frames, points, 2)),
        "predicted visibility": (result.visible.shape, (frames, points)),
        "true visibility": (true_visible.shape, (frames, points)),
        "query frames": (query_frame.shape, (points,)),
    }
    for what, (got, wanted) in expected.items():
        if got != wanted:
            raise ValueError(f"{what} must have shape {wanted} to fit the true positions, got {got}")
