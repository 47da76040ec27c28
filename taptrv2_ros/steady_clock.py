"""A clock for what the node does now and then, whatever time the robot's clock shows."""

from __future__ import annotations

from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]


def steady_clock() -> Clock:
    """For timers: with use_sim_time the node's own clock may stand still, and its timers with it."""
    return Clock(clock_type=ClockType.STEADY_TIME)
