"""The baselines on pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taptrv2_core.evaluation.baselines import LucasKanade, NeverMoves
from taptrv2_core.evaluation.tracking import track_both_ways

STEP = np.array([1.5, -0.75], np.float32)
"""Pixels a frame."""
FRAMES = 8


@pytest.fixture(scope="module")
def video() -> NDArray[np.uint8]:
    """(8, 120, 160, 3): a blurred random texture that moves by STEP a frame."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for t in range(FRAMES):
        dx, dy = t * STEP - (80, 60)
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        frames.append(cv2.warpAffine(texture, shift, (160, 120), flags=cv2.INTER_CUBIC))
    return np.stack(frames)


def true_tracks(start: NDArray[np.int64], xy: NDArray[np.float32]) -> NDArray[np.float32]:
    time = np.arange(FRAMES)[:, None] - start
    return (xy + time[..., None] * STEP).astype(np.float32)


def test_never_moves_stays_and_is_always_visible(video: NDArray[np.uint8]) -> None:
    start, xy = np.array([0, 3]), np.array([[10, 20], [30, 40]], np.float32)
    result = NeverMoves().track(video, start, xy)
    np.testing.assert_array_equal(result.xy, np.repeat(xy[None], FRAMES, 0))
    np.testing.assert_array_equal(result.visible[:, 0], True)
    assert result.visible[:, 1].tolist() == [False] * 3 + [True] * 5


def test_lucas_kanade_follows_from_each_points_own_frame(video: NDArray[np.uint8]) -> None:
    start, xy = np.array([0, 0, 3]), np.array([[60, 70], [90.5, 50.25], [80, 60]], np.float32)
    result = LucasKanade().track(video, start, xy)
    after = np.arange(FRAMES)[:, None] >= start
    assert np.abs(result.xy - true_tracks(start, xy))[after].max() < 0.1
    np.testing.assert_array_equal(result.visible, after)
    np.testing.assert_array_equal(result.xy[:3, 2], np.repeat(xy[2:], 3, 0))


def test_lucas_kanade_both_ways_answers_the_frames_before_the_query(video: NDArray[np.uint8]) -> None:
    start, xy = np.array([4, 7]), np.array([[80, 60], [100, 40]], np.float32)
    result = track_both_ways(LucasKanade(), video, start, xy)
    assert np.abs(result.xy - true_tracks(start, xy)).max() < 0.1
    assert result.visible.all()


def test_lucas_kanade_calls_a_covered_point_hidden_for_good(video: NDArray[np.uint8]) -> None:
    covered = video.copy()
    covered[4:, 20:100, 20:80] = np.random.default_rng(1).integers(0, 256, (4, 80, 60, 3), dtype=np.uint8)
    start, xy = np.zeros(2, np.int64), np.array([[50, 60], [130, 60]], np.float32)
    result = LucasKanade().track(covered, start, xy)
    assert result.visible[:, 1].all()
    assert result.visible[:4, 0].all()
    assert not result.visible[4:, 0].any()


def test_lucas_kanade_calls_a_point_that_left_the_image_hidden(video: NDArray[np.uint8]) -> None:
    start, xy = np.zeros(1, np.int64), np.array([[155, 60]], np.float32)  # the edge is at 159.5, three frames on
    result = LucasKanade().track(video, start, xy)
    assert result.visible[:3, 0].all()
    assert not result.visible[4:, 0].any()
    assert np.isfinite(result.xy).all()
