"""Images are taken in a thread of their own, whatever else the node is doing, also by subscriptions made meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: make build, tools/run.sh pytest")
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import UInt8
from waiting import wait_until

from taptrv2_ros.executors import ImageGroup, spinning


@pytest.fixture
def node() -> Iterator[Node]:
    """A node whose callbacks are executed."""
    context = Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("test_executors", context=context)
    with spinning(node):
        yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_images_are_taken_while_another_callback_waits(node: Node) -> None:
    waiting, go_on, seen, threads = threading.Event(), threading.Event(), list[int](), set[int]()

    def wait(_: UInt8) -> None:
        waiting.set()
        assert go_on.wait(10)

    def take(message: UInt8) -> None:
        seen.append(message.data)
        threads.add(threading.get_ident())

    node.create_subscription(UInt8, "~/other", wait, 5)
    node.create_subscription(UInt8, "~/image", take, 5, callback_group=ImageGroup())
    other, image = node.create_publisher(UInt8, "~/other", 5), node.create_publisher(UInt8, "~/image", 5)
    wait_until(lambda: other.get_subscription_count() and image.get_subscription_count(), "the subscriptions")
    other.publish(UInt8(data=0))
    assert waiting.wait(5)
    for index in range(5):
        image.publish(UInt8(data=index))
        wait_until(lambda index=index: seen == list(range(index + 1)), f"image {index}")
    go_on.set()
    assert len(threads) == 1


def test_a_destroyed_subscription_is_gone_though_no_image_comes(node: Node) -> None:
    subscription = node.create_subscription(UInt8, "~/image", lambda _: None, 5, callback_group=ImageGroup())
    publisher = node.create_publisher(UInt8, "~/image", 5)
    wait_until(lambda: publisher.get_subscription_count() == 1, "the subscription")
    node.destroy_subscription(subscription)
    wait_until(lambda: publisher.get_subscription_count() == 0, "its end")


def test_shutting_down_waits_for_the_callback_that_runs(node: Node) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(_: UInt8) -> None:
        begun.set()
        time.sleep(0.3)
        ended.set()

    node.create_subscription(UInt8, "~/other", work, 5)
    other = node.create_publisher(UInt8, "~/other", 5)
    wait_until(lambda: other.get_subscription_count() == 1, "the subscription")
    other.publish(UInt8())
    assert begun.wait(5)
    assert node.executor is not None
    node.executor.shutdown()
    assert ended.is_set()
