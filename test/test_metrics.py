"""TAP-Vid's metrics, on cases worked out by hand and against the definition spelled out point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taptrv2_core.evaluation.breakdown import breakdown, merge
from taptrv2_core.evaluation.metrics import METRIC_NAMES, Metrics, QueryMode, average, tapvid_metrics
from taptrv2_core.evaluation.samples import Sample
from taptrv2_core.evaluation.tracking import TrackResult

SQUARE = (256, 256)


def worked_case() -> tuple[TrackResult, np.ndarray, np.ndarray, np.ndarray]:
    """Two points, four frames; point 0 is queried in frame 0, point 1 in frame 1.

    point 0: frame 1 visible, 0.5 px off, called visible
             frame 2 visible, 3 px off, called hidden
             frame 3 hidden, called visible
    point 1: frame 0 hidden, called hidden (counts for strided queries only)
             frame 2 visible, exactly 1 px off, called visible
             frame 3 visible, 20 px off, called visible
    """
    true_xy = np.zeros((4, 2, 2), np.float32) + [[100, 100], [50, 60]]
    true_visible = np.array([[1, 0], [1, 1], [1, 1], [0, 1]], bool)
    xy = true_xy.astype(np.float32).copy()
    xy[1, 0] += (0.5, 0.0)
    xy[2, 0] += (0.0, -3.0)
    xy[3, 0] += (70.0, 0.0)
    xy[2, 1] += (1.0, 0.0)
    xy[3, 1] += (12.0, 16.0)
    visible = np.array([[1, 0], [1, 1], [0, 1], [1, 1]], bool)
    return TrackResult(xy, visible), true_xy.astype(np.float32), true_visible, np.array([0, 1])


def test_query_first_by_hand() -> None:
    result, xy, visible, start = worked_case()
    metrics = tapvid_metrics(result, xy, visible, start, SQUARE, "first")
    # Scored are point 0 in frames 1 to 3 and point 1 in frames 2 and 3: five, four of them visible.
    assert metrics.scored == 5
    assert metrics.always_visible_accuracy == pytest.approx(4 / 5)
    # Right flags: point 0 in frame 1, point 1 in both.
    assert metrics.occlusion_accuracy == pytest.approx(3 / 5)
    # Distances 0.5, 3, 1 and 20; nearer means less than, so 1 is not within 1 px. Flags do not matter.
    within = [getattr(metrics, f"within_{t}") for t in (1, 2, 4, 8, 16)]
    assert within == pytest.approx([1 / 4, 2 / 4, 3 / 4, 3 / 4, 3 / 4])
    assert metrics.delta_avg == pytest.approx(0.6)
    # At 1 px one true positive (0.5 px off); called visible and wrong are three (hidden; 1 px; 20 px): 1 / (4 + 3).
    # From 2 px on the 1 px joins the true positives: 2 / (4 + 2); the 3 px never does, being called hidden.
    jaccard = [getattr(metrics, f"jaccard_{t}") for t in (1, 2, 4, 8, 16)]
    assert jaccard == pytest.approx([1 / 7, 2 / 6, 2 / 6, 2 / 6, 2 / 6])
    assert metrics.average_jaccard == pytest.approx((1 / 7 + 4 / 3) / 5)
    assert metrics.median_error == pytest.approx(2.0)  # of 0.5, 1, 3, 20
    assert metrics.survival == 1.0  # nothing visible was 50 px off


def test_query_strided_also_scores_frames_before_the_query() -> None:
    result, xy, visible, start = worked_case()
    metrics = tapvid_metrics(result, xy, visible, start, SQUARE, "strided")
    # One more than above: point 1 in frame 0, rightly called hidden.
    assert metrics.scored == 6
    assert metrics.occlusion_accuracy == pytest.approx(4 / 6)
    assert metrics.always_visible_accuracy == pytest.approx(4 / 6)
    assert metrics.average_jaccard == pytest.approx((1 / 7 + 4 / 3) / 5)
    assert metrics.delta_avg == pytest.approx(0.6)


def test_what_is_not_annotated_is_not_scored() -> None:
    result, xy, visible, start = worked_case()
    scored = np.ones_like(visible)
    scored[3] = False
    metrics = tapvid_metrics(result, xy, visible, start, SQUARE, "first", scored)
    # Left are 0.5 px, 3 px (called hidden) and 1 px, all visible.
    assert metrics.scored == 3
    assert metrics.occlusion_accuracy == pytest.approx(2 / 3)
    assert metrics.within_4 == pytest.approx(1.0)
    assert metrics.jaccard_1 == pytest.approx(1 / 4)


def test_distances_are_those_of_a_frame_of_256_by_256() -> None:
    # In a frame of 1024 x 512, 4 px to the right and 2 px down are 1 px each at 256 x 256.
    xy = np.full((2, 2, 2), 200, np.float32)
    moved = xy.copy()
    moved[1] += ((3.9, 0.0), (0.0, 2.1))
    metrics = tapvid_metrics(
        TrackResult(moved, np.ones((2, 2), bool)), xy, np.ones((2, 2), bool), np.zeros(2, np.int64), (512, 1024)
    )
    assert metrics.within_1 == 0.5
    assert metrics.within_2 == 1.0


def test_survival_ends_where_a_visible_point_is_first_lost() -> None:
    # Five frames after the query. Track 0 is 60 px off in frame 3: two of five frames survived. Track 1 is as far off,
    # but hidden then. Track 2 has no frame after its query and does not count.
    xy = np.zeros((6, 3, 2), np.float32)
    visible = np.ones((6, 3), bool)
    visible[3, 1] = False
    predicted = xy.copy()
    predicted[3, :2, 0] = 60
    start = np.array([0, 0, 5])
    metrics = tapvid_metrics(TrackResult(predicted, visible), xy, visible, start, SQUARE, "strided")
    assert metrics.survival == pytest.approx((2 / 5 + 1) / 2)


def test_prediction_that_is_not_a_number_is_wrong_not_absent() -> None:
    xy = np.zeros((3, 1, 2), np.float32)
    seen = np.ones((3, 1), bool)
    predicted = xy.copy()
    predicted[1] = np.nan
    metrics = tapvid_metrics(TrackResult(predicted, seen), xy, seen, np.zeros(1, np.int64), SQUARE)
    assert metrics.within_16 == 0.5
    assert metrics.jaccard_16 == pytest.approx(1 / 3)  # one hit, and the miss counts as missing and as false


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_random_case_against_the_definition_point_by_point(mode: QueryMode) -> None:
    rng = np.random.default_rng(3)
    frames, points = 9, 7
    xy = rng.uniform(0, 250, (frames, points, 2)).astype(np.float32)
    predicted = (xy + rng.normal(0, 5, xy.shape)).astype(np.float32)
    seen, called = rng.random((2, frames, points)) > (0.3)
    start = rng.integers(0, frames, points)
    metrics = tapvid_metrics(TrackResult(predicted, called), xy, seen, start, (300, 200), mode)
    for threshold in (1, 2, 4, 8, 16):
        hits = truly = false = near = 0
        for n in range(points):
            for t in range(frames):
                if t == start[n] or (mode == "first" and t < start[n]):
                    continue
                dx, dy = (predicted[t, n] - xy[t, n]) * (256 / 200, 256 / 300)
                close = math.hypot(dx, dy) < threshold
                truly += seen[t, n]
                near += seen[t, n] and close
                hits += seen[t, n] and close and called[t, n]
                false += called[t, n] and not (seen[t, n] and close)
        assert getattr(metrics, f"within_{threshold}") == pytest.approx(near / truly)
        assert getattr(metrics, f"jaccard_{threshold}") == pytest.approx(hits / (truly + false))


def test_average_is_over_videos_and_leaves_out_what_has_nothing_to_score() -> None:
    def metrics(**given: float) -> Metrics:
        return Metrics(**{**dict.fromkeys(METRIC_NAMES, 0.0), **given})

    mean = average([metrics(delta_avg=0.2, scored=10), metrics(delta_avg=0.6, scored=1000)])
    assert mean.delta_avg == pytest.approx(0.4)  # of the two videos, not of 1010 points
    mean = average([metrics(delta_avg=math.nan), metrics(delta_avg=0.6)])
    assert mean.delta_avg == pytest.approx(0.6)
    with pytest.raises(ValueError, match="no videos"):
        average([])


def test_shapes_that_do_not_fit_are_named() -> None:
    result, xy, visible, start = worked_case()
    with pytest.raises(ValueError, match=r"predicted visibility must have shape \(4, 2\).*got \(3, 2\)"):
        tapvid_metrics(TrackResult(result.xy, result.visible[:3]), xy, visible, start, SQUARE)
    with pytest.raises(ValueError, match="query mode 'last'"):
        tapvid_metrics(result, xy, visible, start, SQUARE, "last")  # type: ignore[arg-type]


def test_breakdown_by_displacement_visibility_and_return() -> None:
    # One point, queried in frame 0 at x = 100. Displacements in frames 1 to 5: 2, 10, hidden at 20, 20, 40.
    x = np.array([100, 102, 110, 120, 120, 140], np.float32)
    xy = np.stack([x, np.full(6, 50, np.float32)], axis=-1)[:, None]
    visible = np.array([1, 1, 1, 0, 1, 1], bool)[:, None]
    sample = Sample(
        name="made",
        video=np.zeros((6, 256, 256, 3), np.uint8),
        query_frame=np.array([0]),
        query_xy=xy[0],
        gt_xy=xy,
        gt_visible=visible,
        scored=np.ones_like(visible),
        known=np.ones_like(visible),
    )
    predicted = xy.copy()
    predicted[2, 0, 0] += 3  # within 4, 8, 16
    predicted[3, 0, 0] += 10  # hidden: within 16
    predicted[5, 0, 0] += 100
    called = np.array([1, 1, 0, 1, 1, 1], bool)[:, None]
    tallies = breakdown(TrackResult(predicted, called), sample)
    groups = {name: tally.shares() for name, tally in tallies.items()}
    assert groups["0-4 px"]["delta_avg"] == 1.0
    assert groups["4-16 px"]["delta_avg"] == pytest.approx(3 / 5)
    assert groups["4-16 px"]["flag_accuracy"] == 0.0
    assert groups["16-32 px"]["delta_avg"] == 1.0
    assert groups["> 32 px"]["delta_avg"] == 0.0
    assert groups["visible"]["positions"] == 4
    assert groups["visible"]["flag_accuracy"] == pytest.approx(3 / 4)
    assert groups["hidden"]["delta_avg"] == pytest.approx(1 / 5)
    assert groups["hidden"]["flag_accuracy"] == 0.0
    assert groups["seen again"]["positions"] == 2  # frames 4 and 5
    assert groups["seen again"]["delta_avg"] == pytest.approx(1 / 2)
    total: dict = {}
    merge(total, tallies)
    merge(total, tallies)
    assert total["visible"].shares()["positions"] == 8
    assert total["4-16 px"].shares()["delta_avg"] == pytest.approx(3 / 5)
