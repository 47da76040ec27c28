"""The live node, fed a bag slowly enough to drop nothing, publishes what is computed offline: to the bit, also where
both have to start anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from recorded import HEIGHT, WIDTH, stamped_bag
from ros_harness import Robot, wait_until

from taptrv2_core import Tracks, load_model
from taptrv2_core.query_files import read_queries
from taptrv2_core.recordings import open_recording
from taptrv2_core.reference_files import read_reference, write_reference
from taptrv2_core.replay.run import Replayer
from taptrv2_core.stamps import MAX_GAP, StampWatch
from taptrv2_core.tracking_run import PointSource
from taptrv2_core.tracking_run.reading import Decoder
from taptrv2_ros.conversions import frame_message
from taptrv2_ros.demo.node_process import NodeProcess
from taptrv2_ros.msg import PointTracks

STAMPS = np.concatenate((10 + 0.05 * np.arange(21), 13 + 0.05 * np.arange(9), 2 + 0.05 * np.arange(5)))
"""Seconds: a camera that stood still for two, then a bag that begins again."""
FRAMES = len(STAMPS)
QUERIES = "frame,x,y\n0,30,20\n0,50.5,40\n3,20,30.25\n8,70,50\n21,40,30\n24,60.5,20\n31,50,50\n"
GIVEN = np.array([-1, -1, 0, 0, 3, 8, 21, 24, 31])
FORGOTTEN = np.array([FRAMES, FRAMES, 21, 21, 21, 21, 30, 30, FRAMES])
"""Images in which each point is given, and in which it is tracked no more; the first two are a reference's."""


class Given(NamedTuple):
    bag: Path
    weights: Path
    queries: Path
    reference: Path


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Given:
    folder = tmp_path_factory.mktemp("live")
    (folder / "points.csv").write_text(QUERIES)
    bag = stamped_bag(folder / "slide", STAMPS.tolist())
    with open_recording(bag) as recording:
        picture = next(iter(recording.frames)).rgb()
    write_reference(folder / "mug.yaml", picture[10:60, 8:80], [(30, 20), (50.5, 30)])
    return Given(bag, weights, folder / "points.csv", folder / "mug.yaml")


@pytest.fixture(scope="module")
def live(given: Given) -> Iterator[list[PointTracks]]:
    """The node's tracks of every image of the bag, each published when the tracks of the one before had come."""
    parameters = {
        "image_topic": "/camera/image_raw", "image_reliability": "reliable", "weights": str(given.weights),
        "device": "cpu", "dtype": "float32", "threads": 1, "references": [str(given.reference)],
    }  # fmt: skip
    robot = Robot()
    try:
        with NodeProcess(parameters, given.queries.with_name("node.log"), lambda _: None) as node:
            yield _play(given, robot, node)
    finally:
        robot.close()


def _play(given: Given, robot: Robot, node: NodeProcess) -> list[PointTracks]:
    from sensor_msgs.msg import Image

    publisher = robot.node.create_publisher(Image, "/camera/image_raw", 10)
    robot.wait_for_node(node)
    wait_until(lambda: publisher.get_subscription_count() > 0, "the node's subscription")
    queries = read_queries(given.queries)
    found: list[PointTracks] = []
    with open_recording(given.bag) as recording:
        for number, frame in enumerate(recording.frames):
            message = frame_message(frame)
            publisher.publish(message)

            def arrived(stamp: object = message.header.stamp) -> bool:
                return any(t.header.stamp == stamp for t in robot.tracks)

            wait_until(arrived, f"tracks of image {number}")
            found.append(robot.tracks[-1])
            new = [(q.x, q.y) for q in queries if q.frame == number]
            if new:
                assert robot.add(new).success
    return found


@pytest.fixture(scope="module")
def offline(given: Given) -> list[Tracks]:
    points = PointSource(read_queries(given.queries), references=[read_reference(given.reference)])
    points.begin((HEIGHT, WIDTH), FRAMES)
    with open_recording(given.bag) as recording:
        frames = Decoder(recording, None, pytest.fail, StampWatch(MAX_GAP)).frames()
        replay = Replayer(load_model(given.weights, device="cpu"), points, stretch=0).run(frames, lambda: None)
    assert not replay.problem
    kept = ", 2 of references looked for anew"
    assert replay.resets == [
        f"image 21: no image for 2 s by their stamps (max_gap is 1 s), 4 points forgotten{kept}",
        f"image 30: stamps went back by 11.4 s, 2 points forgotten{kept}",
    ]
    return replay.tracks


def test_the_same_tracks_to_the_bit(live: list[PointTracks], offline: list[Tracks]) -> None:
    assert len(live) == len(offline) == FRAMES
    for number, (message, tracks) in enumerate(zip(live, offline, strict=True)):
        stamp = message.header.stamp
        assert stamp.sec * 1_000_000_000 + stamp.nanosec == tracks.stamp
        # The offline answer has the points that were added in this image too, which live are added after it.
        older = GIVEN[tracks.ids] < number
        followed = np.flatnonzero((number > GIVEN) & (number < FORGOTTEN))
        assert list(message.ids) == tracks.ids[older].tolist() == followed.tolist()
        assert message.frame_index == tracks.frame_index
        for name in ("x", "y", "visibility"):
            np.testing.assert_array_equal(np.array(getattr(message, name)), getattr(tracks, name)[older], name)
        for name in ("visible", "found"):
            assert [bool(v) for v in getattr(message, name)] == getattr(tracks, name)[older].tolist()


def test_the_points_moved(live: list[PointTracks]) -> None:
    """Otherwise equality would say nothing."""
    x = np.array([t.x for t in live[9:21]])
    assert (np.ptp(x, axis=0) > 0.5).all()
