"""Points spread over boxes and polygons."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from taptrv2_core import PointError
from taptrv2_core.regions import inside, points_in_region

SIZE = (120, 160)
BOX = [(20.0, 10.0), (100.0, 70.0)]
CRESCENT = [(10.0, 10.0), (90.0, 10.0), (90.0, 30.0), (30.0, 30.0), (30.0, 90.0), (10.0, 90.0)]


def nearest(points: np.ndarray) -> np.ndarray:
    """Distance of each point to the one nearest to it."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return (distance + np.diag(np.full(len(points), np.inf))).min(axis=1)


@pytest.mark.parametrize("count", [1, 2, 7, 60, 400, 2000])
@pytest.mark.parametrize("vertices", [BOX, CRESCENT, [(0.0, 0.0), (150.0, 20.0), (40.0, 110.0)]])
def test_so_many_points_are_spread_evenly(vertices: list[tuple[float, float]], count: int) -> None:
    points = points_in_region(vertices, SIZE, count=count)
    assert points.shape == (count, 2)
    outline = np.array(vertices)
    if len(vertices) == 2:
        (x0, y0), (x1, y1) = vertices
        outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    assert inside(outline, points).all()
    area = cv2.contourArea(outline.astype(np.float32))
    if count > 1:  # of a square grid, the distance would be the root of the area per point
        assert nearest(points).min() > 0.5 * np.sqrt(area / count)
    np.testing.assert_array_equal(points, points_in_region(vertices, SIZE, count=count))


def test_thousands_of_points_take_a_moment() -> None:
    begun = time.thread_time()
    assert len(points_in_region([(10, 10), (620, 20), (300, 460)], (480, 640), count=4000)) == 4000
    assert time.thread_time() - begun < 1  # seconds; it is about a tenth of that


def test_a_spacing_gives_a_grid_centred_in_the_box() -> None:
    points = points_in_region(BOX, SIZE, spacing=20)
    np.testing.assert_array_equal(np.unique(points[:, 0]), [30, 50, 70, 90])
    np.testing.assert_array_equal(np.unique(points[:, 1]), [20, 40, 60])
    assert len(points) == 12
    np.testing.assert_array_equal(points_in_region(BOX[::-1], SIZE, spacing=20), points)


def test_a_spacing_in_a_polygon_keeps_to_its_inside() -> None:
    points = points_in_region(CRESCENT, SIZE, spacing=10)
    assert inside(np.array(CRESCENT), points).all()
    assert not ((points > 30).all(axis=1)).any()
    assert nearest(points) == pytest.approx(10)


def test_what_lies_outside_the_image_is_left_out() -> None:
    points = points_in_region([(-50, -50), (40, 30)], SIZE, count=50)
    assert len(points) == 50
    assert (points > -0.5).all() and (points < (40, 30)).all()
    spaced = points_in_region([(150, 100), (400, 300)], SIZE, spacing=4)
    assert (spaced < (SIZE[1] - 0.5, SIZE[0] - 0.5)).all()


def test_a_thin_region_is_still_filled() -> None:
    sliver = [(0.0, 0.0), (150.0, 100.0), (150.0, 102.0), (0.0, 2.0)]
    points = points_in_region(sliver, SIZE, count=40)
    assert inside(np.array(sliver), points).all()
    assert np.ptp(points[:, 0]) > 130


def test_vertices_far_away_are_no_trouble() -> None:
    points = points_in_region([(-1e30, -1e30), (1e30, 1e30)], SIZE, spacing=40)
    np.testing.assert_array_equal(np.unique(points[:, 0]), [19.5, 59.5, 99.5, 139.5])


def test_inside_by_the_even_odd_rule() -> None:
    bow = np.array([(0.0, 0.0), (10.0, 10.0), (10.0, 0.0), (0.0, 10.0)])
    found = inside(bow, np.array([(1.0, 5.0), (9.0, 5.0), (5.0, 1.0), (5.0, 9.0), (11.0, 5.0)]))
    assert found.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("vertices", "options", "reason"),
    [
        ([(1, 1)], {"count": 3}, "two opposite corners"),
        ([(1, 2, 3), (4, 5, 6)], {"count": 3}, "two opposite corners"),
        ([(1, 1), (float("nan"), 5)], {"count": 3}, "NaN"),
        ([(5, 5), (50, 5)], {"count": 3}, "no area"),
        ([(5, 5), (5, 5)], {"count": 3}, "no area"),
        ([(0, 0), (50, 50), (100, 100)], {"count": 3}, "no area"),
        ([(200, 10), (300, 50)], {"count": 3}, "outside the image of 160 x 120"),
        ([(150, -50), (250, -50), (250, 60)], {"count": 3}, "no area inside the image"),
        ([(1e30, 1e30), (-1e30, 1e30)], {"count": 3}, "no area"),
        ([(x % 100, x // 100) for x in range(1001)], {"count": 3}, "1001 vertices; at most 1000"),
        (BOX, {}, "either the number"),
        (BOX, {"count": 3, "spacing": 4.0}, "either the number"),
        (BOX, {"count": -3}, "-3 points"),
        (BOX, {"count": 1_000_000}, "at most 100000"),
        (BOX, {"count": 20, "most": 19}, "at most 19"),
        (BOX, {"count": 4801}, "covers 4800 pixels"),
        (BOX, {"spacing": 0.5}, "must be 1 or more"),
        (BOX, {"spacing": -4.0}, "must be 1 or more"),
        (BOX, {"spacing": float("nan")}, "must be 1 or more"),
        (BOX, {"spacing": 5.0, "most": 20}, "192 points in this region; at most 20"),
        (CRESCENT, {"spacing": 75.0}, "no point falls"),
    ],
)
def test_refused(vertices: list[tuple[float, ...]], options: dict[str, float], reason: str) -> None:
    with pytest.raises(PointError, match=reason):
        points_in_region(vertices, SIZE, **options)
