"""Remapped names and namespaces, over real DDS."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import IMAGES, Robot, node_in_this_process, wait_until


def test_what_belongs_to_the_images_follows_their_remapping(weights: Path) -> None:
    remapping = (f"{IMAGES}:=/front/image", "__ns:=/robot1", "__node:=eye")
    with node_in_this_process(weights, *remapping, depth_topic="depth", image_transport="compressed") as node:
        node.trigger_configure()
        node.trigger_activate()
        heard = {topic for topic, _ in node.get_subscriber_names_and_types_by_node("eye", "/robot1")}
        assert heard >= {
            "/front/image/compressed",
            "/front/image_mouse_left",
            "/front/camera_info",
            "/robot1/depth",
            "/robot1/eye/click",
            "/robot1/eye/overlay_mouse_left",
        }


def test_diagnostics_of_two_robots_have_names_of_their_own(weights: Path) -> None:
    with node_in_this_process(weights, "__ns:=/robot1", "__node:=eye") as node:
        node.trigger_configure()
        node.trigger_activate()
        robot = Robot("/robot1/eye")
        try:

            def said() -> DiagnosticStatus:
                return robot.diagnostics.get("robot1/eye: camera", DiagnosticStatus())

            wait_until(lambda: said().level == DiagnosticStatus.ERROR, "the status of its camera")
            assert said().message == f"nobody publishes '{IMAGES}'"  # its own overlay is nothing to look at
            assert "robot1/eye: node" in robot.diagnostics
        finally:
            robot.close()
