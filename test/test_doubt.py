"""Points that were lost: what is found again must be what was lost."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import TINY, tiny_model

from taptrv2_core import Taptr, Tracker, load_model
from taptrv2_core.doubt import CERTAIN, OLDEST, Doubts
from taptrv2_core.evaluation.generated import synthetic_dataset

LOST = torch.tensor([True, False, True])
NONE = torch.zeros(3, dtype=torch.bool)
FITS, UNLIKE = -3.0, 2.0
FRAMES = 12


def lost_points() -> Doubts:
    """Three points, of which the first and the last have just become doubtful."""
    doubts = Doubts()
    doubts.add(NONE)
    doubts.enter(LOST, NONE)
    return doubts


def judged(doubts: Doubts, spread: float, rows: tuple[int, ...] = (0, 2)) -> list[float]:
    """The evidence of points that the network calls visible and the search knows."""
    count = len(rows)
    logit, agreement = torch.full((count,), 4.0), torch.full((count,), -0.5)
    return [float(e) for e in doubts.evidence(torch.tensor(rows), logit, agreement, torch.full((count,), spread))]


def test_what_looks_otherwise_is_less_likely() -> None:
    assert judged(lost_points(), UNLIKE)[0] < 0 < CERTAIN < judged(lost_points(), FITS)[0]


def test_the_longer_ago_the_less_is_believed() -> None:
    doubts, found = lost_points(), []
    for _ in range(OLDEST + 3):
        found.append(judged(doubts, UNLIKE)[0])
        doubts.enter(NONE, NONE)
    assert (np.diff(found)[: OLDEST - 1] < 0).all() and found[-1] == found[-2]
    begun = Doubts()
    begun.add(LOST)
    assert judged(begun, UNLIKE)[0] == found[-1], "nobody knows where it ever was"


def test_doubt_ends_when_it_is_certain_or_the_point_rests() -> None:
    doubts = lost_points()
    judged(doubts, FITS)
    assert doubts.doubtful.tolist() == LOST.tolist(), "the newest image may be answered again"
    doubts.enter(NONE, NONE)
    assert not doubts.doubtful.any()
    doubts.enter(LOST, NONE)
    judged(doubts, UNLIKE)
    doubts.enter(NONE, resting=torch.tensor([True, True, False]))
    assert doubts.doubtful.tolist() == [False, False, True]


def test_a_point_that_is_lost_again_is_doubtful_again() -> None:
    doubts = lost_points()
    judged(doubts, FITS)
    doubts.enter(LOST, NONE)
    assert doubts.doubtful.tolist() == LOST.tolist()


def test_rows_are_those_of_the_points() -> None:
    doubts = lost_points()
    judged(doubts, FITS, rows=(0,))
    doubts.add(torch.tensor([True, False]))
    doubts.keep(torch.tensor([0, 1, 2, 3]))
    assert doubts.doubtful.tolist() == [True, False, True, True]
    doubts.enter(torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool))
    assert doubts.doubtful.tolist() == [False, False, True, True]


@pytest.fixture(scope="module")
def model() -> Taptr:
    return load_model("small", "cpu")


@pytest.fixture(scope="module")
def scenes() -> list[NDArray[np.uint8]]:
    """Clips (T, H, W, 3)."""
    return [sample.video for sample in synthetic_dataset(3, FRAMES, seed=1).samples]


def corners(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 2) pixels."""
    return cv2.goodFeaturesToTrack(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 40, 0.02, 12).reshape(-1, 2)


def test_points_of_another_scene_are_not_called_visible(model: Taptr, scenes: list[NDArray[np.uint8]]) -> None:
    shares = []
    for before, after in zip(scenes, scenes[1:] + scenes[:1], strict=True):
        tracker = Tracker(model)
        tracker.step(before[0])
        tracker.add_points(corners(before[0]))
        shares.append([tracker.step(image).visible.mean() for image in after])
    late = np.mean(shares, axis=0)[-4:]
    assert late.mean() < 0.08, late


def test_points_that_come_back_are_called_visible(model: Taptr, scenes: list[NDArray[np.uint8]]) -> None:
    """In a picture that has moved, after some of another scene; and stay so."""
    tracker = Tracker(model)
    picture, points = scenes[0][0], corners(scenes[0][0])
    tracker.step(picture)
    tracker.add_points(points)
    for image in scenes[1][:4]:
        tracker.step(image)
    for index in range(8):
        step = np.array((12.0 + index, -8.0 - 0.5 * index))
        shift = np.float32([[1, 0, step[0]], [0, 1, step[1]]])
        tracks = tracker.step(cv2.warpAffine(picture, shift, (256, 256), borderMode=cv2.BORDER_REFLECT))  # type: ignore[arg-type]
        there = ((points + step > 16) & (points + step < 240)).all(axis=1)
        right = tracks.visible & (np.linalg.norm(tracks.xy - (points + step), axis=1) < 4)
        assert right[there].mean() > 0.8


@pytest.mark.parametrize("fitted", [False, True])
def test_a_search_whose_opinions_are_not_fitted_has_no_say(fitted: bool) -> None:
    """A network in training: what doubts are judged by means nothing yet."""
    tiny = tiny_model(config=replace(TINY, motion="flow", search=True, refine=True))
    assert tiny.search is not None
    if fitted:
        tiny.search.opinions.copy_(torch.tensor((0.5, 0.5, 0.8)))
    tracker, random = Tracker(tiny), np.random.default_rng(0)
    images = random.integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    tracker.step(images[0])
    tracker.add_reference(images[1], [(20.0, 30.0), (40.0, 30.0)])
    motion = tracker._engine._motion
    assert motion is not None and motion._doubts.doubtful.all()
    before = torch.full((2,), -5.0)
    with torch.inference_mode():  # as the tracker calls it
        assert torch.equal(motion.judged(tiny.search, torch.zeros(2), before), before) is not fitted
