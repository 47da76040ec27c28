"""Simulated time, over real DDS: the node's own stamps are of that clock, its watchfulness is not."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import Robot, node_in_this_process, wait_until
from rosgraph_msgs.msg import Clock


def test_stamps_are_of_the_simulated_clock_and_diagnostics_go_on_while_it_stands(weights: Path) -> None:
    with node_in_this_process(weights, use_sim_time=True) as node:
        robot = Robot()
        try:
            assert robot.transition("configure")
            clock = robot.node.create_publisher(Clock, "/clock", 1)
            wait_until(lambda: clock.get_subscription_count() > 0, "the node's subscription to the clock")
            now = Clock()
            now.clock.sec = 5000

            def told() -> bool:
                clock.publish(now)
                return node.get_clock().now().nanoseconds == 5000 * 10**9

            wait_until(told, "the simulated time")
            assert robot.transition("activate")
            wait_until(lambda: bool(robot.status) and robot.status[-1].active, "the status of an active node")
            assert (robot.status[-1].stamp.sec, robot.status[-1].stamp.nanosec) == (5000, 0)
            # No image comes. By the simulated clock no time passes; it is told all the same.
            robot.wait_for_diagnosis("camera", "nobody publishes", DiagnosticStatus.ERROR)
        finally:
            robot.close()
