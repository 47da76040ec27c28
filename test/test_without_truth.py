"""Measures that need no ground truth, and those of steadiness, on cases worked by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import tiny_model

from taptrv2_core import Taptr, Tracker, Tracks
from taptrv2_core.evaluation.easy_points import EasyPoints, agreement
from taptrv2_core.evaluation.palindrome import Palindrome
from taptrv2_core.evaluation.stability import (
    durations,
    first_frames,
    flicker,
    hidden_frames,
    jitter,
    lost_frames,
    static_points,
)

HEIGHT, WIDTH, FRAMES = 90, 120, 9
START = np.zeros(1, np.int64)


def column(*values: float) -> NDArray[np.float32]:
    """(T, 1, 2): one point that moves along x alone."""
    return np.array([[[x, 5.0]] for x in values], np.float32)


def flags(text: str) -> NDArray[np.bool_]:
    """(T, 1): 1 visible, 0 hidden."""
    return np.array([[c == "1"] for c in text])


def test_jitter_of_a_point_that_swings() -> None:
    """After the query it alternates by 2 px: every step is 2, and it is always 1 from its mean."""
    xy = column(10, 11, 9, 11, 9)
    result = jitter(xy, flags("11111"), START, np.ones(1, bool))
    assert (result.points, result.step, result.spread) == (1, pytest.approx(2.0), pytest.approx(1.0))
    # A hidden frame breaks the chain of steps, and its position does not count.
    result = jitter(column(10, 11, 99, 11, 9), flags("11011"), START, np.ones(1, bool))
    assert result.step == pytest.approx(2.0)
    assert result.spread == pytest.approx(np.sqrt(8 / 9))  # 11, 11, 9 about 31/3
    assert np.isnan(jitter(xy, flags("11111"), START, np.zeros(1, bool)).step)


def test_slow_drift_shows_in_the_spread_and_not_in_the_step() -> None:
    result = jitter(column(0, *np.arange(1, 12) * 0.1), flags("1" * 12), START, np.ones(1, bool))
    assert result.step == pytest.approx(0.1, rel=1e-5)
    assert result.spread == pytest.approx(np.sqrt(0.1), rel=1e-5)  # of 0.1 .. 1.1: variance (11**2 - 1) / 12 / 100


def test_static_points() -> None:
    xy = np.concatenate((column(1, 1.4, 0.6), column(1, 1.4, 1.6), column(1, 9, 1.2), column(1, 1, 1)), axis=1)
    known = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
    assert static_points(xy, known, np.zeros(4, np.int64)).tolist() == [True, False, True, False]


def test_flicker_counts_changes_and_short_runs() -> None:
    result = flicker(flags("1101100011"), START)
    assert result.changes == pytest.approx(100 * 4 / 9)
    assert result.short_runs == 2  # the single 0, and the 11 after it; 000 is long
    steady = flicker(flags("1111111111"), START)
    assert (steady.changes, steady.short_runs) == (0.0, 0)
    late = flicker(flags("0000111000"), np.array([4]))
    assert late.changes == pytest.approx(100 / 5)  # becoming tracked is no change
    assert np.isnan(flicker(flags("1"), START).changes)


def test_time_to_first_loss() -> None:
    size = (256, 256)
    true_xy = np.concatenate([column(0, 0, 0, 0)] * 4, axis=1)
    xy = np.concatenate(
        (column(0, 51, 0, 51), column(0, 49, 49, 49), column(51, 0, 0, 51), column(0, 0, 51, 51)), axis=1
    )
    seen = np.ones((4, 4), bool)
    seen[2, 3] = False  # while it is hidden, nobody is told off
    query = np.array([0, 0, 1, 0])
    lost = lost_frames(xy, true_xy, seen, query, size)
    assert lost.tolist() == [1, -1, 3, 3]
    seconds = np.array([0.0, 0.1, 0.3, 0.6])
    np.testing.assert_allclose(durations(lost, query, seconds), [0.1, np.inf, 0.5, 0.6])
    # 50 pixels at 256 x 256 are 100 of an image twice as wide.
    assert lost_frames(2 * xy, 2 * true_xy, seen, query, (512, 512)).tolist() == [1, -1, 3, 3]
    assert hidden_frames(flags("0110"), np.array([1])).tolist() == [3]
    assert first_frames(flags("0000")).tolist() == [-1]


@pytest.fixture(scope="module")
def video() -> NDArray[np.uint8]:
    """A texture that moves by (2, 1) a frame; a grey square comes over its left part in frame 5; right is flat."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for t in range(FRAMES):
        frame = texture[30 - t : 30 - t + HEIGHT, 60 - 2 * t : 60 - 2 * t + WIDTH].copy()
        frame[:, 85:] = 128
        if t >= 5:
            frame[10:50, 10:60] = 90
        frames.append(frame)
    return np.stack(frames)


def easy_rows(video: NDArray[np.uint8], queries: dict[int, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    points, none = EasyPoints(), np.zeros((0, 2), np.float32)
    return [points.step(frame, queries.get(t, none)) for t, frame in enumerate(video)]


def test_easy_points_follow_texture_until_it_is_covered(video: NDArray[np.uint8]) -> None:
    first = np.array([[40, 65], [30, 25], [105, 40]], np.float32)  # in view; covered in frame 5; flat
    rows = easy_rows(video, {0: first, 2: np.array([[50, 60]], np.float32)})
    assert [len(row) for row in rows] == [3, 3, 4, 4, 4, 4, 4, 4, 4]
    for t, row in enumerate(rows):
        np.testing.assert_allclose(row[0], [40 + 2 * t, 65 + t], atol=0.1)
        if t < 5:
            np.testing.assert_allclose(row[1], [30 + 2 * t, 25 + t], atol=0.1)
        else:
            assert np.isnan(row[1]).all()
        assert np.isnan(row[2]).all() == (t > 0)
        if t >= 2:
            np.testing.assert_allclose(row[3], [50 + 2 * (t - 2), 60 + t - 2], atol=0.1)


def test_agreement_speaks_of_easy_point_frames_alone() -> None:
    easy = np.concatenate((column(0, 1, 2, 3), column(0, np.nan, np.nan, np.nan)), axis=1)
    xy = np.concatenate((column(0, 1, 2 + 3, 3 + 20), column(0, 50, 50, 50)), axis=1)
    visible = np.ones((4, 2), bool)
    visible[3, 0] = False
    after = np.repeat(np.arange(4)[:, None] > 0, 2, axis=1)
    result = agreement(xy, visible, easy, after)
    assert result.share_easy == pytest.approx(3 / 6)
    assert result.median == pytest.approx(3.0)  # 0, 3, 20
    assert result.within == pytest.approx((1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3))
    assert result.called_visible == pytest.approx(2 / 3)
    nothing = agreement(xy[:, 1:], visible[:, 1:], easy[:, 1:], after[:, 1:])
    assert nothing.share_easy == 0.0
    assert np.isnan(nothing.median)


@pytest.fixture(scope="module")
def model() -> Taptr:
    """Tiny, and inclined to call points visible."""
    model = tiny_model()
    for head in model.class_embed:
        head.bias[1] += 1.5
    return model


def run(model: Taptr, video: NDArray[np.uint8], stretch: int) -> tuple[Palindrome, list[Tracks]]:
    tracker, palindrome = Tracker(model), Palindrome(model, stretch)
    tracker.add_points([(30.0, 30.0), (60.0, 50.0), (80.0, 70.0)])
    tracks = []
    for frame in video:
        tracks.append(tracker.step(frame))
        palindrome.step(frame, tracks[-1])
    return palindrome, tracks


def test_palindrome_is_the_tracker_run_backward(model: Taptr, video: NDArray[np.uint8]) -> None:
    """The same, written out for one stretch: a fresh tracker, the images reversed, from where the tracks arrived."""
    palindrome, tracks = run(model, video, FRAMES - 1)
    seen = tracks[0].visible & tracks[-1].visible
    assert seen.any()
    back = Tracker(model)
    back.step(video[-1])
    back.add_points(np.clip(tracks[-1].xy[seen], -0.5, (WIDTH - 0.5, HEIGHT - 0.5)))
    for frame in video[-2::-1]:
        last = back.step(frame)
    expected = np.where(last.visible, np.linalg.norm(last.xy - tracks[0].xy[seen], axis=-1), np.inf)
    result = palindrome.result()
    assert (result.judged, result.not_judged) == (int(seen.sum()), int((~seen).sum()))
    assert result.called_hidden == int((~last.visible).sum())
    assert result.median == pytest.approx(float(np.median(expected[last.visible])))
    assert result.within == pytest.approx([float((expected < d).mean()) for d in (1, 2, 4, 8, 16)])
    moved = np.linalg.norm(tracks[-1].xy[seen] - tracks[0].xy[seen], axis=-1)
    assert result.moved == pytest.approx(float(np.median(moved)))


def test_palindrome_cuts_into_stretches_and_forgets_their_images(model: Taptr, video: NDArray[np.uint8]) -> None:
    palindrome, tracks = run(model, video, 3)  # frames 0-3, 3-6, and 6-8 at the end
    first = palindrome.result()
    ends = [(0, 3), (3, 6), (6, 8)]
    judged = sum(int((tracks[a].visible & tracks[b].visible).sum()) for a, b in ends)
    assert (first.judged, first.not_judged) == (judged, 9 - judged)
    assert len(palindrome._images) == 1
    assert palindrome.result() == first


def test_palindrome_without_points_or_with_one_image(model: Taptr, video: NDArray[np.uint8]) -> None:
    palindrome = Palindrome(model, 4)
    tracker = Tracker(model)
    palindrome.step(video[0], tracker.step(video[0]))
    assert palindrome.result().judged == 0
    assert np.isnan(palindrome.result().median)
    palindrome.step(video[1], tracker.step(video[1]))
    assert palindrome.result().judged == 0
    with pytest.raises(ValueError, match="at least 1 image"):
        Palindrome(model, 0)
