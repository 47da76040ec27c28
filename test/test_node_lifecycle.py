"""A supervisor and the node, over real DDS: transitions, and parameters in each state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_harness import Camera, Robot, wait_until
from tiny import tiny_model

from taptrv2_core import save_checkpoint
from taptrv2_ros.demo.node_process import NodeProcess

IMAGES = "/test/image_raw"


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = Robot()
    yield robot
    robot.close()


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera(IMAGES)
    yield camera
    camera.close()


def test_a_supervisor_takes_the_node_through_its_states(tmp_path: Path, robot: Robot, camera: Camera) -> None:
    weights = tmp_path / "tiny.pt"
    save_checkpoint(tiny_model(), weights)
    log = tmp_path / "node.log"
    parameters = {"autostart": False, "weights": "/nowhere/weights.pt", "image_topic": IMAGES, "device": "cpu"}
    with NodeProcess(parameters, log, lambda _: None):
        assert robot.state() == "unconfigured"
        assert robot.node.count_publishers("/taptr/tracks") == 0
        assert not robot.transition("activate")
        by_number = Transition(id=Transition.TRANSITION_ACTIVATE)
        assert not robot.call_any(ChangeState, "/taptr/change_state", transition=by_number).success

        # A failed load leaves it unconfigured, and the reason is in log and diagnostics.
        assert not robot.transition("configure")
        assert robot.state() == "unconfigured"
        assert "cannot configure: /nowhere/weights.pt: no such file" in log.read_text()
        robot.wait_for_diagnosis("node", "/nowhere/weights.pt: no such file", DiagnosticStatus.ERROR)

        # Mended by a parameter, it loads.
        assert robot.set_parameter("weights", str(weights)).successful
        assert robot.transition("configure")
        assert robot.state() == "inactive"
        robot.wait_for_diagnosis("node", "inactive", DiagnosticStatus.OK)
        wait_until(lambda: [s.active for s in robot.status] == [False], "the status of an inactive node")
        assert robot.node.count_subscribers(IMAGES) == 0
        assert "no image has been tracked yet" in robot.add([(5.0, 5.0)]).message

        for name, value, reason in [
            ("weights", "small", "'weights' can be set only while the node is unconfigured: deactivate it and clean"),
            ("max_points", 0, "max_points"),
            ("max_points", "many", "Wrong parameter type"),
            ("autostart", True, "autostart"),
            ("image_transport", "theora", "'image_transport' is 'theora', which is none of raw, compressed"),
        ]:
            refused = robot.set_parameter(name, value)
            assert not refused.successful
            assert reason in refused.reason
        assert robot.set_parameter("image_reliability", "reliable").successful

        # Images are received only while it is active; points outlive a pause.
        assert robot.transition("activate")
        camera.publish(1, 0)
        wait_until(lambda: robot.list().image_stamp.sec == 1000, "the first image")
        refused = robot.set_parameter("image_topic", "/elsewhere")
        assert "'image_topic' can be set only while the node is not active" in refused.reason
        assert robot.set_parameter("max_points", 2).successful
        wait_until(lambda: robot.status[-1].active and robot.status[-1].max_points == 2, "the new limit")
        assert "at most 2" in robot.add([(5.0, 5.0)] * 3).message
        (point,) = robot.add([(5.0, 5.0)]).ids
        camera.publish(1, 1)
        assert list(robot.wait_for_tracks("camera_1").ids) == [point]
        assert robot.transition("deactivate")
        wait_until(lambda: robot.node.count_subscribers(IMAGES) == 0, "the end of the subscription")
        assert list(robot.list().ids) == [point]
        assert robot.transition("activate")
        camera.publish(1, 2)
        assert list(robot.wait_for_tracks("camera_2").ids) == [point]
        assert robot.node.count_subscribers(IMAGES) == 1

        # Cleaning up takes topics and services away; configuring again starts anew.
        assert robot.transition("deactivate")
        assert robot.transition("cleanup")
        assert robot.state() == "unconfigured"
        wait_until(lambda: robot.node.count_publishers("/taptr/tracks") == 0, "the end of the topic")
        assert "3 images received, 3 tracked" in log.read_text()
        assert robot.transition("configure")
        assert robot.transition("activate")
        camera.publish(1, 3)
        wait_until(lambda: robot.list().image_stamp.nanosec == 300_000_000, "an image after the clean-up")
        assert len(robot.list().ids) == 0
        assert robot.transition("shutdown")
        assert robot.state() == "finalized"
    assert "Traceback" not in log.read_text()
