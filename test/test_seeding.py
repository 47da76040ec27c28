"""Automatic points: where they start, when they end, and whose they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from tiny import tiny_model

from taptrv2_core import Tracker, Tracks
from taptrv2_core.seeding import Seeder, SeedingOptions, spread_corners

SIZE = (120, 160)


def checkered(cell: int = 10) -> np.ndarray:
    """(H, W, 3) squares of random brightness: a corner every ``cell`` pixels."""
    shades = np.random.default_rng(3).integers(0, 256, (SIZE[0] // cell, SIZE[1] // cell, 1)).astype(np.uint8)
    return np.repeat(np.repeat(np.repeat(shades, 3, axis=2), cell, axis=0), cell, axis=1)


def seen(tracker: Tracker, hidden: tuple[int, ...] = (), moved: dict[int, tuple[float, float]] | None = None) -> Tracks:
    """Tracks as of a network that sees all but the hidden points, where they were added or moved to."""
    now = tracker.queries()
    x, y = now.x.copy(), now.y.copy()
    for point, (to_x, to_y) in (moved or {}).items():
        row = now.ids.tolist().index(point)
        x[row], y[row] = to_x, to_y
    visible = ~np.isin(now.ids, hidden)
    return Tracks(now.ids, x, y, visible.astype(np.float32), visible, now.found, tracker.frame_index, 0)


@pytest.fixture
def tracker() -> Tracker:
    tracker = Tracker(tiny_model(), max_points=60)
    tracker.step(checkered())
    return tracker


def far_apart(tracker: Tracker, least: float) -> bool:
    now = tracker.queries()
    xy = np.stack((now.x, now.y), axis=-1)
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + 1e9 * np.eye(len(xy))
    return bool(distance.min() >= least)


def test_corners_are_found_where_they_are_and_apart() -> None:
    image = np.full((*SIZE, 3), 90, dtype=np.uint8)
    cv2.rectangle(image, (40, 30), (100, 80), (250, 250, 250), -1)
    corners = spread_corners(image, 10)
    expected = np.array([(40, 30), (100, 30), (40, 80), (100, 80)])
    assert len(corners) == 4
    for corner in expected:
        assert np.linalg.norm(corners - corner, axis=1).min() < 2
    left = spread_corners(image, 10, taken=[(42.0, 29.0), (99.0, 79.0)])
    assert len(left) == 2
    assert len(spread_corners(image[..., 0], 10)) == 4


def test_corners_of_large_images_are_where_they_are() -> None:
    image = np.full((1080, 1920), 90, dtype=np.uint8)
    cv2.rectangle(image, (400, 300), (1000, 800), 250, -1)
    corners = spread_corners(image, 10, min_distance=30)
    assert len(corners) == 4
    for corner in [(400, 300), (1000, 300), (400, 800), (1000, 800)]:
        assert np.linalg.norm(corners - corner, axis=1).min() <= 6  # two pixels of the shrunk image
    assert len(spread_corners(image, 10, taken=[(405.0, 305.0)], min_distance=30)) == 3


def test_no_corners_in_a_blank_image() -> None:
    assert spread_corners(np.full((*SIZE, 3), 90, dtype=np.uint8), 10).shape == (0, 2)


def test_empty_parts_of_the_image_come_first() -> None:
    strong, weak = checkered(), (checkered() // 4 + 100).astype(np.uint8)
    image = np.concatenate((strong[:, :80], weak[:, 80:]), axis=1)
    corners = spread_corners(image, 24, min_distance=5)
    assert len(corners) == 24
    assert 8 <= (corners[:, 0] > 80).sum() <= 16  # by strength alone, all would lie on the left
    taken = [(x, y) for x in range(4, 80, 8) for y in range(4, 120, 8)]
    beside = spread_corners(image, 24, taken, min_distance=5)
    assert (beside[:, 0] > 75).sum() >= 20


def test_points_are_kept_at_the_target(tracker: Tracker) -> None:
    seeder = Seeder(SeedingOptions(30, min_distance=8))
    first = seeder.update(tracker, checkered(), seen(tracker), 0.0)
    assert len(first.added) == 30
    assert tuple(first.added) == seeder.ids
    assert far_apart(tracker, 8)
    tracker.remove_points(first.added[:20])  # a client may
    changes = [seeder.update(tracker, checkered(), seen(tracker), 0.1 * i) for i in range(1, 5)]
    assert sum(len(c.added) for c in changes) == 20
    assert len(seeder.ids) == tracker.num_points == 30
    assert far_apart(tracker, 7.9)


def test_a_lowered_target_or_limit_gives_up_the_youngest_but_never_a_clients(tracker: Tracker) -> None:
    clients = tracker.add_points([(80.0, 60.0), (20.0, 20.0)])
    seeder = Seeder(SeedingOptions(30, min_distance=8))
    added = seeder.update(tracker, checkered(), seen(tracker), 0.0).added
    seeder.options = SeedingOptions(12, min_distance=8)
    assert seeder.update(tracker, checkered(), seen(tracker), 0.1).retired == added[12:]
    for limit, kept in ((10, 8), (1, 0)):
        tracker.max_points = limit
        seeder.update(tracker, checkered(), seen(tracker), 0.2)
        assert tracker.queries().ids.tolist() == [*clients, *added[:kept]]


def test_points_hidden_for_long_are_replaced_but_never_a_clients(tracker: Tracker) -> None:
    (client,) = tracker.add_points([(80.0, 60.0)])
    seeder = Seeder(SeedingOptions(20, min_distance=8, retire_seconds=0.45))
    added = seeder.update(tracker, checkered(), seen(tracker), 0.0).added
    gone = added[:5]
    retired: list[int] = []
    for i in range(1, 9):
        hidden = (client, *gone) if i != 2 else (client, *gone[1:])  # the first comes back once
        change = seeder.update(tracker, checkered(), seen(tracker, tuple(set(hidden) - set(retired))), 0.1 * i)
        retired += change.retired
        if i == 5:
            assert sorted(retired) == list(gone[1:])
    assert sorted(retired) == list(gone)
    assert client in tracker.queries().ids
    assert len(seeder.ids) == 20


def test_points_outside_the_image_are_given_up(tracker: Tracker) -> None:
    seeder = Seeder(SeedingOptions(10, retire_seconds=0.0))
    added = seeder.update(tracker, checkered(), seen(tracker), 0.0).added
    change = seeder.update(tracker, checkered(), seen(tracker, moved={added[3]: (165.0, 20.0)}), 0.1)
    assert change.retired == (added[3],)


def test_of_two_points_that_have_met_the_younger_goes(tracker: Tracker) -> None:
    seeder = Seeder(SeedingOptions(20, min_distance=10))
    added = seeder.update(tracker, checkered(), seen(tracker), 0.0).added
    (client,) = tracker.add_points([(3.0, 3.0)])
    now = tracker.queries()
    place = {i: (float(x), float(y)) for i, x, y in zip(now.ids.tolist(), now.x, now.y, strict=True)}
    moved = {added[7]: place[added[2]], client: place[added[4]]}
    changes = [seeder.update(tracker, checkered(), seen(tracker, moved=moved), 0.1)]
    changes += [seeder.update(tracker, checkered(), seen(tracker, moved=moved), 0.1 * i) for i in (2, 3)]
    assert not any(c.retired for c in changes)
    moved_change = seeder.update(tracker, checkered(), seen(tracker, moved=moved), 0.4)
    assert sorted(moved_change.retired) == sorted((added[4], added[7]))
    assert client in tracker.queries().ids


def test_the_trackers_limit_holds_and_others_come_first(tracker: Tracker) -> None:
    seeder = Seeder(SeedingOptions(100, min_distance=4))
    clients = tracker.add_points([(5.0 + i, 5.0) for i in range(20)])
    seeder.update(tracker, checkered(), seen(tracker), 0.0)
    assert tracker.num_points == 60
    youngest = seeder.ids[-5:]
    assert seeder.make_room(tracker, 5) == youngest
    more = tracker.add_points([(50.0, 5.0 + i) for i in range(5)])
    assert tracker.num_points == 60
    assert seeder.make_room(tracker, 1000) == ()
    assert len(seeder.make_room(tracker, 35)) == 35
    assert set(tracker.queries().ids) == {*clients, *more}
    assert seeder.make_room(tracker, 1) == ()


def test_own_points_that_others_removed_are_no_trouble(tracker: Tracker) -> None:
    seeder = Seeder(SeedingOptions(60, min_distance=3))
    seeder.update(tracker, checkered(), seen(tracker), 0.0)
    own, free = list(seeder.ids), tracker.max_points - tracker.num_points
    tracker.remove_points(own[-3:])
    assert seeder.make_room(tracker, free + 5) == tuple(own[-5:-3])
    tracker.remove_points(own[:1])
    assert seeder.clear(tracker) == tuple(own[1:-5])
    assert seeder.ids == ()
    assert tracker.num_points == 0


def test_it_survives_a_reset_and_a_clock_set_back(tracker: Tracker) -> None:
    seeder = Seeder(SeedingOptions(10, min_distance=8))
    seeder.update(tracker, checkered(), seen(tracker), 100.0)
    tracker.reset()
    tracker.step(checkered())
    for i in range(4):
        seeder.update(tracker, checkered(), seen(tracker), 5.0 + 0.1 * i)
    assert len(seeder.ids) == tracker.num_points == 10
    change = seeder.update(tracker, checkered(), seen(tracker, hidden=seeder.ids), 1.0)
    assert change.retired == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target_points": 0}, "target_points"),
        ({"target_points": 5, "min_distance": -1.0}, "min_distance"),
        ({"target_points": 5, "min_distance": float("nan")}, "min_distance"),
        ({"target_points": 5, "quality": 0.0}, "quality"),
        ({"target_points": 5, "retire_seconds": -0.1}, "retire_seconds"),
    ],
)
def test_wrong_options_are_named(options: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SeedingOptions(**options)  # type: ignore[arg-type]
