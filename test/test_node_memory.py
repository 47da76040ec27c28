"""What a clean-up frees, over real DDS, with the node in this process so that its objects can be looked at."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
import rclpy
from rclpy.signals import SignalHandlerOptions
from ros_harness import Camera, Robot
from tiny import tiny_model

from taptrv2_core import save_checkpoint
from taptrv2_ros.executors import spinning
from taptrv2_ros.lifecycle import TrackerNode

IMAGES = "/test/image_raw"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrackerNode]:
    """A node that is unconfigured."""
    weights = tmp_path / "tiny.pt"
    save_checkpoint(tiny_model(), weights)
    values = {"autostart": False, "weights": str(weights), "image_topic": IMAGES, "image_reliability": "reliable"}
    options = [part for name, value in values.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
    rclpy.init(args=["--ros-args", *options], signal_handler_options=SignalHandlerOptions.NO)
    node = TrackerNode()
    with spinning(node):
        yield node
    node.stop()
    node.destroy_node()
    rclpy.shutdown()


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
        large = {"network": weakref.ref(node.model), "window": weakref.ref(tracker._engine)}
        large |= {f"ring {i}": weakref.ref(ring) for i, ring in enumerate(tracker._engine._ring)}
        del tracker
        assert robot.transition("deactivate")
        assert robot.transition("cleanup")
        # Nothing else runs: the executors still hold what they called last.
        gc.collect()
        assert [name for name, reference in large.items() if reference() is not None] == []
    finally:
        camera.close()
        robot.close()
