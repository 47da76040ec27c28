"""The demo's side of DDS: publishes images, asks for points, receives tracks."""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_ros.demo.errors import DemoError
from taptrv2_ros.first_contact import FirstContact
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.srv import AddPoints, ListPoints

NODE = "/taptr"
_POLL = 0.2  # seconds between looks at whether the node still lives


class Client:
    """Speaks with a running node. Every wait ends early, with the node's reason, if ``check`` finds it gone.

    As a context manager it leaves DDS on the way out.
    """

    def __init__(self, topic: str, compressed: bool, check: Callable[[], None], timeout: float) -> None:
        """``topic`` is where images are published; ``timeout`` in seconds bounds every wait."""
        self._check, self._timeout, self._topic = check, timeout, topic
        self._live: queue.Queue[PointTracks] = queue.Queue()
        self._refined: queue.Queue[PointTracks] = queue.Queue()
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("taptr_demo")
        qos = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
        self._images = self._node.create_publisher(CompressedImage if compressed else Image, topic, qos)
        self._node.create_subscription(PointTracks, f"{NODE}/tracks", self._live.put, 10)
        self._node.create_subscription(PointTracks, f"{NODE}/refined_tracks", self._refined.put, 10)
        self._add = self._node.create_client(AddPoints, f"{NODE}/add_points")
        self._contact = FirstContact(self._node.create_client(ListPoints, f"{NODE}/list_points"))
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, name="demo executor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.shutdown()

    def wait_for_node(self) -> None:
        """Until the node's services answer us, it listens to our images, and it knows that we listen to its tracks."""

        def ready() -> bool:
            return (
                self._images.get_subscription_count() > 0
                and self._node.count_publishers(f"{NODE}/tracks") > 0
                and self._add.service_is_ready()
                and self._contact.made()
            )

        self._wait(ready, f"the node did not appear on DDS, or does not listen to {self._topic}")

    def play(self, message: Image | CompressedImage) -> tuple[PointTracks, list[PointTracks]]:
        """Publish an image and wait for its tracks; returns them, and what has become final meanwhile."""
        while not self._live.empty():
            self._live.get_nowait()
        self._images.publish(message)
        deadline = time.monotonic() + self._timeout
        while True:
            tracks = self._receive(deadline)
            if tracks.header.stamp == message.header.stamp:
                return tracks, self.refined()

    def refined(self) -> list[PointTracks]:
        """Refined tracks received since the last look."""
        found = []
        while not self._refined.empty():
            found.append(self._refined.get_nowait())
        return found

    def add_points(self, x: Sequence[float], y: Sequence[float]) -> list[int]:
        """Add points (pixels) at the newest image; returns their ids. Raises DemoError if the node refuses."""
        answer = self._call(self._add, AddPoints.Request(x=array("f", x), y=array("f", y)))
        if not answer.success:
            raise DemoError(f"the node refused the points: {answer.message}")
        return list(answer.ids)

    def _receive(self, deadline: float) -> PointTracks:
        while True:
            try:
                return self._live.get(timeout=_POLL)
            except queue.Empty:
                self._check()
                if time.monotonic() > deadline:
                    raise DemoError(f"no tracks for an image within {self._timeout:g} s") from None

    def _call(self, client: Any, request: Any) -> Any:
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        self._wait(lambda: done.wait(_POLL), f"{client.srv_name} did not answer")
        return future.result()

    def _wait(self, condition: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + self._timeout
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise DemoError(f"{failure} within {self._timeout:g} s")
            time.sleep(0.02)
