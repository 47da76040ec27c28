"""Clients whose first answer is lost, as DDS loses it where it does not know them yet, ask again instead of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from rclpy.service import Service
from ros_harness import Robot, node_in_this_process, wait_until

from taptrv2_core.demos.click import ClickError
from taptrv2_ros import click_page, client, first_contact
from taptrv2_ros.srv import ClearPoints, ListPoints


@pytest.fixture
def robot(weights: Path) -> Iterator[Robot]:
    """A client of a node that is configured."""
    with node_in_this_process(weights, device="cpu", dtype="float32") as node:
        node.trigger_configure()
        robot = Robot()
        yield robot
        robot.close()


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Kinds of the services that answered, the first time in vain."""
    send, kinds = Service.send_response, list[type]()

    def lose_the_first(service: Service, *arguments: object) -> None:
        kinds.append(service.srv_type)
        if len(kinds) > 1:
            send(service, *arguments)

    monkeypatch.setattr(Service, "send_response", lose_the_first)
    monkeypatch.setattr(first_contact, "AGAIN", 0.2)
    return kinds


def page(robot: Robot) -> click_page.LiveStage:
    """Has seen the services of the points, asked none yet."""
    stage = click_page.LiveStage(robot.node, "camera/image_raw", "/taptr")
    wait_until(stage._services.ready, "services")
    return stage


def test_of_a_robot(robot: Robot, answered: list[type]) -> None:
    robot.wait_for_node()
    robot.clear()
    assert answered == [ListPoints, ListPoints, ClearPoints]


def test_of_the_click_page(robot: Robot, answered: list[type]) -> None:
    page(robot).clear()
    assert answered == [ListPoints, ListPoints, ClearPoints]


def test_the_click_page_gives_up(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "send_response", lambda *_: None)
    monkeypatch.setattr(client, "ANSWER", 0.5)
    with pytest.raises(ClickError, match=r"list_points did not answer within 0\.5 s"):
        page(robot).clear()
