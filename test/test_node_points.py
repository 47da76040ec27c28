"""Regions, groups, clicks, velocities and automatic points of the node, over real DDS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from camera_process import camera_stamp
from geometry_msgs.msg import Point, PointStamped
from ros_harness import Setup, wait_until

from taptrv2_ros.msg import PointTracks

BOX = [(8.0, 8.0), (40.0, 32.0)]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Setup]:
    """One node for all: each test begins without points."""
    with Setup(tmp_path_factory.mktemp("points"), weights, max_points=40) as running:
        running.index = count()
        running.track(1, next(running.index))
        yield running


@pytest.fixture
def robot(setup: Setup) -> Any:
    assert setup.robot.set_parameter("target_points", 0).successful
    following(setup)
    setup.robot.clear()
    return setup.robot


def following(setup: Setup) -> PointTracks:
    """The tracks of one more image."""
    (tracks,) = setup.track(1, next(setup.index))
    return tracks


def names(message: Any) -> list[str]:
    return [message.group_names[i] for i in message.group]


def test_a_region_is_one_handle_by_its_group(setup: Setup, robot: Any) -> None:
    (plain,) = robot.add([(50.0, 40.0)]).ids
    mug = robot.add_region(BOX, count=12, group="mug")
    assert mug.success
    assert (len(mug.ids), len(mug.points_x), len(mug.points_y)) == (12, 12, 12)
    assert min(mug.points_x) > 8 and max(mug.points_x) < 40
    assert min(mug.points_y) > 8 and max(mug.points_y) < 32
    plate = robot.add_region([(5.0, 5.0), (60.0, 5.0), (60.0, 45.0)], spacing=10.0, group="plate")
    assert plate.success
    assert all(y < 5 + (x - 5) * 40 / 55 for x, y in zip(plate.points_x, plate.points_y, strict=True))

    tracks, listed = following(setup), robot.list()
    for message in (tracks, listed):
        assert list(message.ids) == [plain, *mug.ids, *plate.ids]
        assert names(message) == ["", *["mug"] * 12, *["plate"] * len(plate.ids)]
    removed = robot.remove([plain], group="mug")
    assert (removed.success, removed.removed) == (True, 13)
    tracks = following(setup)
    assert list(tracks.ids) == list(plate.ids)
    assert list(tracks.group_names) == ["", "plate"]
    refused = robot.remove([], group="mug")
    assert not refused.success
    assert "no tracked point is in a group 'mug'; groups are: 'plate'" in refused.message


def test_a_region_in_an_older_image(setup: Setup, robot: Any) -> None:
    for _ in range(3):
        newest = following(setup)
    index = int(newest.header.frame_id.removeprefix("camera_"))
    sec, nanosec = camera_stamp(index - 2)
    request = {"count": 3, "image_stamp": type(newest.header.stamp)(sec=sec, nanosec=nanosec)}
    assert robot.add_region(BOX, **request).success
    assert set(robot.list().query_frame_index) == {newest.frame_index - 2}


@pytest.mark.parametrize(
    ("xy", "fields", "reason"),
    [
        ([(5.0, 5.0), (30.0, 5.0)], {"count": 3}, "no area"),
        ([(0.0, 0.0), (20.0, 20.0), (40.0, 40.0)], {"spacing": 4.0}, "no area"),
        ([(100.0, 100.0), (200.0, 200.0)], {"count": 3}, "outside the image of 64 x 48"),
        (BOX, {"count": 41}, "at most 40"),
        (BOX, {"count": 4_000_000_000}, "at most 40"),
        (BOX, {"count": 3, "spacing": 3.0}, "either the number"),
        (BOX, {}, "either the number"),
        (BOX, {"count": 3, "group": "auto"}, "the node's own"),
        ([(1.0, float("nan")), (9.0, 9.0)], {"count": 3}, "NaN"),
    ],
)
def test_regions_that_are_refused(robot: Any, xy: Any, fields: dict[str, Any], reason: str) -> None:
    answer = robot.add_region(xy, **fields)
    assert not answer.success
    assert reason in answer.message
    assert (len(answer.ids), len(robot.list().ids)) == (0, 0)


def test_clicks_add_points_and_bad_ones_are_told_each_time(setup: Setup, robot: Any) -> None:
    node, log = robot.node, setup.log
    foxglove = node.create_publisher(PointStamped, "/taptr/click", 10)
    viewers = [
        node.create_publisher(Point, f"{topic}_mouse_left", 10) for topic in ("/test/image_raw", "/taptr/overlay")
    ]
    for publisher in (foxglove, *viewers):
        wait_until(lambda p=publisher: p.get_subscription_count() > 0, "the subscription to clicks")
    newest = following(setup)
    click = PointStamped(point=Point(x=20.0, y=10.0))
    click.header.stamp.sec = 4_000_000  # of another clock
    foxglove.publish(click)
    wait_until(lambda: len(robot.list().ids) == 1, "the click")
    index = int(newest.header.frame_id.removeprefix("camera_"))
    click.header.stamp.sec, click.header.stamp.nanosec = camera_stamp(index - 3)
    click.header.stamp.nanosec += 5_000_000  # a little after that image
    foxglove.publish(click)
    wait_until(lambda: len(robot.list().ids) == 2, "the click")
    assert list(robot.list().query_frame_index) == [newest.frame_index, newest.frame_index - 3]
    for number, viewer in enumerate(viewers, start=3):
        viewer.publish(Point(x=30.0 + number, y=20.0))
        wait_until(lambda n=number: len(robot.list().ids) == n, "the click")
    listed = robot.list()
    assert names(listed) == ["click"] * 4
    assert (listed.x[3], listed.y[3]) == (34.0, 20.0)

    foxglove.publish(PointStamped(point=Point(x=64.0, y=20.0)))
    foxglove.publish(PointStamped(point=Point(x=64.0, y=20.0)))
    viewers[0].publish(Point(x=0.4, y=0.2, z=1.5))
    outside, space = "click at (64, 20) refused", "click at (0.4, 0.2) refused: it has z = 1.5"
    wait_until(lambda: log.read_text().count(outside) == 2 and space in log.read_text(), "the warnings")
    assert len(robot.list().ids) == 4
    assert robot.remove([], group="click").removed == 4
    for publisher in (foxglove, *viewers):
        node.destroy_publisher(publisher)


def test_velocities_are_pixels_a_second(setup: Setup, robot: Any) -> None:
    robot.add([(20.0, 10.0), (40.5, 30.25)])
    first, second = following(setup), following(setup)
    np.testing.assert_allclose(second.vx, (np.array(second.x) - np.array(first.x)) / 0.1, atol=1e-3)
    np.testing.assert_allclose(second.vy, (np.array(second.y) - np.array(first.y)) / 0.1, atol=1e-3)
    assert np.abs(second.vx).max() > 0
    robot.add([(10.0, 10.0)])
    third = following(setup)
    assert (third.vx[2], third.vy[2]) == (0.0, 0.0)


def test_the_node_keeps_points_by_itself_and_makes_room_for_clients(setup: Setup, robot: Any) -> None:
    (client,) = robot.add([(30.0, 20.0)]).ids
    assert setup.robot.set_parameter("target_points", 39).successful

    def automatic() -> list[int]:
        tracks = following(setup)
        assert client in tracks.ids
        return [i for i, name in zip(tracks.ids, names(tracks), strict=True) if name == "auto"]

    seen: list[int] = []
    deadline = time.monotonic() + 30
    while len(seen) < 15 and time.monotonic() < deadline:
        seen = automatic()
    assert len(seen) >= 15  # as many as the small image has room for
    answer = robot.add_region(BOX, count=30, group="mug")
    assert answer.success, answer.message
    assert len(robot.list().ids) <= 40
    assert not robot.add_region(BOX, count=10).success
    assert set(answer.ids) <= set(following(setup).ids)

    assert setup.robot.set_parameter("target_points", 0).successful
    assert automatic() is not None  # the change is taken up at this image
    assert automatic() == []
    assert set(robot.list().ids) == {client, *answer.ids}
