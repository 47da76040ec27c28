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

from taptrv2_ros.demo.node_process import NodeProcess

IMAGES = "/test/image_raw"


@pytest.fixture(scope="module")
def robot() -> Iterator[Robot]:
    robot = Robot()
    yield robot
    robot.close()


@pytest.fixture(scope="module")
def camera() -> Iterator[Camera]:
    camera = Camera(IMAGES)
    yield camera
    camera.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, robot: Robot) -> Iterator[Path]:
    """Of a node that was not started by itself, with weights that are not there; robot and camera outlive it."""
    path = tmp_path_factory.mktemp("lifecycle") / "node.log"
    parameters = {"autostart": False, "weights": "/nowhere/weights.pt", "image_topic": IMAGES, "device": "cpu"}
    with NodeProcess(parameters, path, lambda _: None):
        yield path
    assert "Traceback" not in path.read_text()


@pytest.fixture
def inactive(log: Path, robot: Robot, camera: Camera, weights: Path) -> None:
    """The node, configured anew with weights that are there."""
    for state, label in (("active", "deactivate"), ("inactive", "cleanup")):
        if robot.state() == state:
            assert robot.transition(label)
    camera.publish(0, 0)
    robot.wait_for_no_node()
    values = {"weights": str(weights), "image_reliability": "reliable", "max_points": 8, "input_size": 48}
    for name, value in values.items():
        assert robot.set_parameter(name, value).successful
    assert robot.transition("configure")
    assert robot.state() == "inactive"
    wait_until(lambda: "network input 48x48" in log.read_text(), "the network")
    robot.wait_for_node()


def test_a_failed_load_leaves_it_unconfigured_and_says_why(log: Path, robot: Robot) -> None:
    assert robot.state() == "unconfigured"
    assert robot.node.count_publishers("/taptr/tracks") == 0
    assert not robot.transition("activate")
    by_number = Transition(id=Transition.TRANSITION_ACTIVATE)
    assert not robot.call(ChangeState, transition=by_number).success

    assert not robot.transition("configure")
    assert robot.state() == "unconfigured"
    wait_until(lambda: "cannot configure: /nowhere/weights.pt: no such file" in log.read_text(), "the reason")
    robot.wait_for_diagnosis("node", "/nowhere/weights.pt: no such file", DiagnosticStatus.ERROR)


@pytest.mark.usefixtures("inactive")
def test_an_inactive_node_answers_and_receives_no_images(robot: Robot) -> None:
    values = robot.wait_for_diagnosis("node", "inactive", DiagnosticStatus.OK)
    assert set(values) == {"state", "weights", "device", "number format"}  # nothing of a GPU
    assert values["device"] == "cpu"
    wait_until(lambda: [s.active for s in robot.status][-1:] == [False], "the status of an inactive node")
    wait_until(lambda: robot.node.count_subscribers(IMAGES) == 0, "no subscription")
    assert "no image has been tracked yet" in robot.add([(5.0, 5.0)]).message


@pytest.mark.usefixtures("inactive")
def test_the_log_says_who_converts_images(robot: Robot, log: Path) -> None:
    assert "images are converted by" in log.read_text()
    assert robot.transition("cleanup")
    assert robot.set_parameter("image_conversion", "own").successful
    assert robot.transition("configure")
    wait_until(lambda: "by the node itself (image_conversion is own)" in log.read_text(), "who converts")
    assert robot.transition("cleanup")
    assert robot.set_parameter("image_conversion", "auto").successful


@pytest.mark.usefixtures("inactive")
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("weights", "small", "'weights' can be set only while the node is unconfigured: deactivate it and clean"),
        ("max_points", 0, "max_points"),
        ("max_points", "many", "Wrong parameter type"),
        ("autostart", True, "autostart"),
        ("image_transport", "theora", "'image_transport' is 'theora', which is none of raw, compressed"),
    ],
)
def test_parameters_that_are_refused(robot: Robot, name: str, value: object, reason: str) -> None:
    refused = robot.set_parameter(name, value)
    assert not refused.successful
    assert reason in refused.reason


@pytest.mark.usefixtures("inactive")
def test_images_are_received_only_while_active_and_points_outlive_a_pause(robot: Robot, camera: Camera) -> None:
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
    camera.publish(0, 0)
    assert robot.transition("activate")
    camera.publish(1, 2)
    assert list(robot.wait_for_tracks("camera_2").ids) == [point]
    wait_until(lambda: robot.node.count_subscribers(IMAGES) == 1, "the only subscription")


@pytest.mark.usefixtures("inactive")
def test_a_clean_up_takes_topics_away_and_configuring_starts_anew(robot: Robot, camera: Camera, log: Path) -> None:
    assert robot.transition("activate")
    camera.publish(1, 3)
    wait_until(lambda: robot.list().image_stamp.nanosec == 300_000_000, "an image")
    assert robot.add([(5.0, 5.0)]).success
    assert robot.transition("deactivate")
    assert robot.transition("cleanup")
    assert robot.state() == "unconfigured"
    wait_until(lambda: robot.node.count_publishers("/taptr/tracks") == 0, "the end of the topic")
    wait_until(lambda: "1 images received, 1 tracked" in log.read_text(), "the sum")
    camera.publish(0, 0)
    robot.wait_for_no_node()

    assert robot.transition("configure")
    assert robot.transition("activate")
    robot.wait_for_node()
    camera.publish(1, 4)
    wait_until(lambda: robot.list().image_stamp.nanosec == 400_000_000, "an image after the clean-up")
    assert len(robot.list().ids) == 0
    assert robot.transition("shutdown")
    assert robot.state() == "finalized"
