"""Points at rest: told by the picture alone, only while the camera stands still."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import TINY, tiny_model

from taptrv2_core import Taptr, Tracker
from taptrv2_core.rest import BACK, Places

HEIGHT, WIDTH = 240, 320
TABLE = np.array([(230.0, 60.0), (260.25, 120.5), (200.0, 180.0)])
"""Points on a plain surface."""
POSTER = np.array([(40.0, 60.0), (90.5, 150.0)])
"""Points on a textured one."""


def scene(shift: float = 0.0, noise: float = 1.0, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W) grey: texture on the left, a bare table on the right; all of it moved to the right by pixels."""
    random = np.random.default_rng(1)
    texture = cv2.resize(
        random.uniform(40, 220, (HEIGHT // 8, WIDTH // 16)), (WIDTH // 2, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    image = np.full((HEIGHT, WIDTH), 180.0)
    image[:, : WIDTH // 2] = texture
    image = cv2.warpAffine(
        image, np.float32([[1, 0, shift], [0, 1, 0]]), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE
    )  # type: ignore[arg-type]
    image += np.random.default_rng(seed + 10).normal(0, noise, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def with_hand(image: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    """A striped thing in front of a square around a point."""
    covered = image.copy()
    covered[y - 20 : y + 20, x - 20 : x + 20] = 60 + 60 * (np.arange(40) // 4 % 2)
    return covered


def placed(points: NDArray[np.float64], noise: float = 1.0) -> Places:
    """Points in a scene whose camera has been still for long enough."""
    places = Places()
    places.enter(scene(noise=noise))
    places.add(scene(noise=noise), points)
    for index in range(1, BACK):
        assert not np.any(places.enter(scene(noise=noise, seed=index)))
    return places


@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
def test_places_look_as_they_did_whatever_the_noise(noise: float) -> None:
    places = placed(np.concatenate((TABLE, POSTER)), noise)
    for index in range(BACK, 3 * BACK):
        assert places.enter(scene(noise=noise, seed=index))[0].all()
    assert places.plain().tolist() == [True] * 3 + [False] * 2


def test_what_something_is_in_front_of_looks_different_until_it_has_gone() -> None:
    places = placed(TABLE)
    same, other = places.enter(with_hand(scene(seed=20), 260, 120))
    assert (same.tolist(), other.tolist()) == ([True, False, True], [False, True, False])
    assert places.enter(scene(seed=21))[0].all()


@pytest.mark.parametrize("speed", [0.02, 0.1, 0.5, 2.0, 10.0])
def test_a_camera_that_moves_makes_places_unknown(speed: float) -> None:
    """Pixels an image; creeping is noticed after some."""
    places = placed(TABLE)
    for index in range(1, 3 * BACK):
        places.enter(scene(speed * index, seed=index))
    assert not places.known.any()
    assert not np.any(places.enter(scene(speed * 3 * BACK)))


def test_an_image_of_another_size_has_no_place_of_before() -> None:
    places = placed(TABLE)
    assert not np.any(places.enter(cv2.resize(scene(seed=20), (2 * WIDTH, 2 * HEIGHT))))
    assert not places.known.any()


def test_a_change_of_light_is_no_movement() -> None:
    places = placed(TABLE)
    for index, exposure in enumerate((1.02, 1.1, 1.25, 1.1, 0.7)):
        image = np.clip(scene(seed=index).astype(np.float32) * exposure, 0, 255).astype(np.uint8)
        assert places.enter(image)[0].all(), exposure


def test_a_shadow_is_neither_the_same_nor_something_in_front() -> None:
    places = placed(TABLE)
    for darker, (same, other) in {4: (True, False), 12: (False, False), 30: (False, True)}.items():
        image = scene(seed=20)
        image[90:150, 230:290] -= np.uint8(darker)  # around the second
        told = places.enter(image)
        assert [places[1] for places in told] == [same, other], darker
        assert told[0][[0, 2]].all()


def test_a_picture_without_detail_tells_nothing_of_the_camera() -> None:
    places, bare = Places(), np.full((HEIGHT, WIDTH), 180, dtype=np.uint8)
    places.enter(bare)
    places.add(bare, TABLE)
    assert not np.any([places.enter(bare) for _ in range(2 * BACK)])


def test_points_that_were_followed_have_a_new_place() -> None:
    places = placed(np.concatenate((TABLE, POSTER)))
    image = scene(seed=20)
    image[100:140, 20:60] = image[40:80, 20:60]  # what is around (40, 60) is around (40, 120) too
    places.seen(image, np.array([(40.0, 120.0), (150.0, 20.0)]), np.array([3, 4]))
    assert places.xy[3].tolist() == [40.0, 120.0]
    assert places.xy[4].tolist() == POSTER[1].tolist(), "what looks different is not the point"
    places.keep(np.array([0, 3]))
    assert places.xy.tolist() == [[230.0, 60.0], [40.0, 120.0]]


def test_places_that_are_not_numbers_are_no_error() -> None:
    places = placed(np.array([(np.nan, 60.0)]))
    assert places.enter(scene(seed=20))[0].shape == (1,)


@pytest.fixture(scope="module")
def model() -> Taptr:
    """Its random weights move every point that they may, by pixels, and call many hidden."""
    return tiny_model(config=replace(TINY, motion="flow", search=True))


def test_points_rest_in_the_tracker(model: Taptr) -> None:
    """Where nothing changes they stay and are visible; where something is in front, hidden, until it goes."""
    tracker = Tracker(model)
    for index in range(BACK + 1):
        tracker.step(scene(seed=index))
    tracker.add_points(TABLE)
    for index in range(BACK + 1, 40):
        hand = 20 <= index < 26
        image = scene(seed=index)
        tracks = tracker.step(with_hand(image, 260, 120) if hand else image)
        resting = [0, 2] if hand else [0, 1, 2]
        np.testing.assert_allclose(tracks.xy[resting], TABLE[resting], atol=1e-3)
        assert tracks.visible[resting].all()
        assert not (hand and tracks.visible[1])
        for older in (past for past in tracks.refined if len(past.ids)):
            here = [0, 2] if 20 <= older.frame_index < 26 else [0, 1, 2]
            np.testing.assert_allclose(older.xy[here], TABLE[here], atol=1e-3)
            assert older.visible[here].all()


def test_under_a_camera_that_moves_the_network_moves_points(model: Taptr) -> None:
    tracker = Tracker(model)
    for index in range(30):
        tracks = tracker.step(scene(2.0 * index, seed=index))
        if index == 10:
            tracker.add_points(TABLE - (40, 0))
    assert np.linalg.norm(tracks.xy - (TABLE - (40, 0)), axis=1).max() > 1
