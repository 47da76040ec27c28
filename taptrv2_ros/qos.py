"""Quality of service, from the words that parameters use, and what the middleware tells about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription

from taptrv2_ros.parameters import Parameters

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # before Iron
    from rclpy.qos_event import (  # type: ignore[no-redef,import-not-found]
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )

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


def subscribe_counting_lost(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    on_lost: Callable[[int], None],
    qos: QoSProfile,
    group: CallbackGroup,
) -> Subscription:
    """A subscription that also says how many messages were lost on the way, where the middleware knows it."""
    events = SubscriptionEventCallbacks(message_lost=lambda event: on_lost(getattr(event, "total_count_change", 0)))
    try:
        return node.create_subscription(kind, topic, callback, qos, callback_group=group, event_callbacks=events)
    except UnsupportedEventTypeError:
        return node.create_subscription(kind, topic, callback, qos, callback_group=group)
