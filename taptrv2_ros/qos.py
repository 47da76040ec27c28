"""Quality of service, from the words that parameters use."""

from __future__ import annotations

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from taptrv2_ros.parameters import Parameters

_RELIABILITY = {
    "best_effort": QoSReliabilityPolicy.BEST_EFFORT,
    "reliable": QoSReliabilityPolicy.RELIABLE,
}
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
"""The newest message also reaches those who subscribe later."""

SERVICES = QoSProfile(depth=100)
"""A client that asks much at once is answered late; with ROS's own depth of 10 its requests would be lost."""


def image_qos(parameters: Parameters) -> QoSProfile:
    """Of subscriptions to a camera's topics."""
    return QoSProfile(depth=parameters.image_queue, reliability=_RELIABILITY[parameters.image_reliability])


def result_qos(parameters: Parameters) -> QoSProfile:
    """Of topics published for every image."""
    return QoSProfile(depth=parameters.result_queue, reliability=_RELIABILITY[parameters.result_reliability])
