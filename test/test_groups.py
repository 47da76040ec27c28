"""Groups of points, and velocities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from taptrv2_core import PointError, Tracks
from taptrv2_core.velocity import Velocities
from taptrv2_ros.groups import Groups


def test_groups_live_as_long_as_their_points() -> None:
    groups = Groups()
    groups.assign([3, 5], "mug")
    groups.assign([4], "plate")
    groups.assign([6], "")
    index, names = groups.table([3, 4, 5, 6, 99])
    assert [names[i] for i in index] == ["mug", "plate", "mug", "", ""]
    assert names[0] == ""
    assert index.dtype == np.uint32
    assert groups.members("mug") == [3, 5]
    groups.forget([3, 5, 77])
    with pytest.raises(PointError, match="group 'mug'; groups are: 'plate'"):
        groups.members("mug")
    groups.forget([4])
    with pytest.raises(PointError, match="groups are: none"):
        groups.members("plate")
    assert groups.table([])[1] == [""]


def test_names_that_cannot_be_given() -> None:
    with pytest.raises(PointError, match="the node's own"):
        Groups().check("auto")
    with pytest.raises(PointError, match="too long"):
        Groups().check("x" * 201)
    with pytest.raises(PointError, match="too long"):
        Groups().members("x" * 1_000_000)
    Groups().check("the mug")


def tracks(ids: list[int], xy: list[tuple[float, float]]) -> Tracks:
    x, y = np.array(xy, dtype=np.float32).reshape(-1, 2).T
    return Tracks(np.array(ids, dtype=np.int64), x, y, np.ones_like(x), x == x, x == x, 0, 0)


def test_velocities_are_of_the_same_point_in_pixels_a_second() -> None:
    velocities = Velocities()
    assert velocities.update(tracks([1, 2], [(0, 0), (10, 10)]), 5.0).tolist() == [[0, 0], [0, 0]]
    second = velocities.update(tracks([2, 3], [(12, 9), (50, 50)]), 5.5)
    np.testing.assert_allclose(second, [[4, -2], [0, 0]])
    assert velocities.update(tracks([2, 3], [(0, 0), (0, 0)]), 5.5).tolist() == [[0, 0], [0, 0]]
    assert velocities.update(tracks([], []), 6.0).shape == (0, 2)


def test_velocities_begin_after_the_image_a_point_is_found_in() -> None:
    velocities = Velocities()
    cases = [((0, 1), (0, 0)), ((0, 1), (0, 2)), ((1, 1), (0, 2)), ((1, 1), (2, 2))]
    for second, (found, expected) in enumerate(cases):
        now = replace(tracks([1, 2], [(2 * second, 0)] * 2), found=np.array(found, bool))
        assert velocities.update(now, float(second))[:, 0].tolist() == list(expected)
