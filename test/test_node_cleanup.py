"""What a clean-up gives back, and that it leaves nobody waiting, over real DDS."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from camera_process import camera_message
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_harness import SIZE, Robot, node_in_this_process, wait_until

from taptrv2_ros.lifecycle import TrackerNode
from taptrv2_ros.srv import AddPoints, AddRegion, ClearPoints, ListPoints, RemovePoints


@pytest.fixture
def node(weights: Path) -> Iterator[TrackerNode]:
    """A node that is unconfigured, in this process."""
    with node_in_this_process(weights) as node:
        yield node


def test_threads_of_zero_gives_back_pytorchs_own_number(node: TrackerNode) -> None:
    before = torch.get_num_threads()
    try:
        for threads, expected in ((before + 2, before + 2), (0, before)):
            (result,) = node.set_parameters([Parameter("threads", value=threads)])
            assert result.successful
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            assert torch.get_num_threads() == expected
            assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    finally:
        torch.set_num_threads(before)


def test_no_request_is_left_without_an_answer(node: TrackerNode) -> None:
    with closing(Robot()) as robot:
        assert robot.transition("configure")
        robot.wait_for_node()
        assert node.tracking is not None
        go_on = threading.Event()
        at_work = threading.Thread(target=node.tracking._worker.call, args=(lambda: go_on.wait(20),))
        at_work.start()
        kinds = [AddPoints, RemovePoints, ClearPoints, AddRegion, ListPoints]
        asked = [robot.ask(kind) for _ in range(5) for kind in kinds]
        time.sleep(0.2)  # one is in work, the others wait
        cleaned_up = robot.ask(ChangeState, transition=Transition(label="cleanup"))
        time.sleep(0.2)
        go_on.set()
        wait_until(lambda: all(answer.done() for answer in (*asked, cleaned_up)), "all answers", 10.0)
        assert cleaned_up.result().success
        at_work.join()
    assert all(answer.result().message for answer in asked if not isinstance(answer.result(), ListPoints.Response))


def test_an_error_nobody_foresaw_is_the_clients_answer(node: TrackerNode, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Robot()) as robot:
        assert robot.transition("configure")
        robot.wait_for_node()
        assert node.tracking is not None
        points = node.tracking.cameras[0].context.session.points
        monkeypatch.setattr(points, "spread", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in robot.add_region([(1.0, 1.0), (9.0, 9.0)], count=3).message


def test_an_image_that_comes_too_late_is_dropped(node: TrackerNode) -> None:
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.tracking is not None
    camera = node.tracking.cameras[0]
    camera._on_image(camera_message(0, SIZE, False, ""))  # taken before the subscription went, handed over after
    for _ in range(2):
        camera.context.run(lambda: None)
    assert (camera.context.session.counters.tracked, camera.context.session.counters.dropped) == (0, 1)
