"""The node's memory, over real DDS: what a clean-up frees, and that threads make no heaps of their own."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from ros_harness import IMAGES, Camera, Robot, Setup, node_in_this_process

from taptrv2_ros.lifecycle import TrackerNode

HEAP = 64 * 2**20  # bytes glibc reserves, aligned, for each heap of a thread


@pytest.fixture
def node(weights: Path) -> Iterator[TrackerNode]:
    """A node that is unconfigured, in this process so that its objects can be looked at."""
    with node_in_this_process(weights) as node:
        yield node


def test_a_clean_up_frees_the_network_and_what_cameras_hold(node: TrackerNode) -> None:
    robot, camera = Robot(), Camera(IMAGES)
    try:
        assert robot.transition("configure")
        assert robot.transition("activate")
        assert node.tracking is not None
        tracker = node.tracking.cameras[0].context.session.tracker
        for index in range(3):
            camera.publish(1, index)
            robot.wait_for_tracks(f"camera_{index}")
            robot.add([(20.0, 10.0)])
        parts = {"network": node.model, "window": tracker._engine, "frames": tracker._engine._ring}
        large = {name: weakref.ref(part) for name, part in parts.items()}
        del parts
        del tracker
        assert robot.transition("deactivate")
        assert robot.transition("cleanup")
        # Nothing else runs: the executors still hold what they called last.
        gc.collect()
        assert [name for name, reference in large.items() if reference() is not None] == []
    finally:
        camera.close()
        robot.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at glibc's heaps in /proc")
def test_all_threads_share_one_heap(tmp_path: Path, weights: Path) -> None:
    with Setup(tmp_path, weights) as setup:
        setup.track(3, 0)
        maps = Path(f"/proc/{setup.node.pid}/maps").read_text().splitlines()
    ranges = [(*(int(end, 16) for end in line.split()[0].split("-")), line.split()[1]) for line in maps]
    # The part in use, and right behind it what is only reserved, 64 MiB together.
    heaps = [
        used
        for used, reserved in pairwise(ranges)
        if (used[2], reserved[2]) == ("rw-p", "---p") and used[0] % HEAP == 0 and reserved[1] - used[0] == HEAP
    ]
    assert heaps == []
