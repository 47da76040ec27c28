"""A robot's bad day, again and again: images that loop, change and break, clients that add and remove, transitions."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from taptrv2_ros.bench.camera import image_message
from taptrv2_ros.first_contact import FirstContact
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.srv import AddPoints, ClearPoints, RemovePoints

SIZES = ((480, 640), (240, 320))
KINDS: dict[str, Any] = {"add_points": AddPoints, "remove_points": RemovePoints, "clear_points": ClearPoints}
_STEP = 50_000_000  # nanoseconds between stamps


class Load:
    """Publishes images to ``/front/image_raw`` and ``/rear/image_raw`` and is a client of both cameras.

    Args:
        points: for each camera.
        round_images: of each camera between two clean-ups; a fourth of it between two pauses.
        on_cleaned: called when the node has been cleaned up, before it is configured again.

    Attributes:
        sent: images published.
        received: tracks received.
        status: texts and values of the newest diagnostics, by name.
    """

    def __init__(self, points: int, round_images: int, on_cleaned: Callable[[], None]) -> None:
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self._node = rclpy.create_node("taptr_soak", context=self._context)
        self._points, self._round, self._on_cleaned = points, round_images, on_cleaned
        self.sent = self.received = 0
        self.status: dict[str, dict[str, str]] = {}
        self._newest: dict[str, list[int]] = {}
        self._images = [[image_message(i, *size) for i in range(8)] for size in SIZES]
        names = ("front", "rear")
        self._publishers = {n: self._node.create_publisher(Image, f"/{n}/image_raw", 5) for n in names}
        queue = QoSProfile(depth=50)
        self._clients = {
            (name, service): self._node.create_client(kind, f"/taptr/{name}/{service}", qos_profile=queue)
            for name in names
            for service, kind in KINDS.items()
        }
        self._lifecycle = self._node.create_client(ChangeState, "/taptr/change_state")
        self._contact = FirstContact(self._node.create_client(GetState, "/taptr/get_state"))
        for name in names:
            self._node.create_subscription(PointTracks, f"/taptr/{name}/tracks", partial(self._on_tracks, name), 10)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        """Whether the node is active, listens and answers."""
        listens = all(publisher.get_subscription_count() for publisher in self._publishers.values())
        return listens and self._contact.made()

    def beat(self) -> None:
        """The next image of both cameras, and what happens at it."""
        index = self.sent // 2
        size = 1 if index % 200 >= 180 else 0
        # Stamps run on for 150 images, then the bag loops.
        stamp = 10**9 + index % 150 * _STEP
        for name, publisher in self._publishers.items():
            message = self._images[size][index % 8]
            if 40 <= index % 53 < 46:  # some in a row: of those that come while it tracks, the node looks at the newest
                message = Image(height=480, width=640, encoding="rgb8", step=1920, data=array("B", b"\0" * 5000))
            message.header.stamp.sec, message.header.stamp.nanosec = stamp // 10**9, stamp % 10**9
            publisher.publish(message)
            self.sent += 1
            self._ask(name, index)
        done = index + 1
        if done % self._round == 0:
            self._transitions("deactivate", "cleanup")
            self._on_cleaned()
            self._transitions("configure", "activate")
        elif done % (self._round // 4) == 0:
            self._transitions("deactivate", "activate")

    def close(self) -> None:
        """Leave ROS."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _ask(self, name: str, index: int) -> None:
        """Requests nobody waits for, good and bad ones."""
        tracked = self._newest.get(name, [])
        if index % 5 == 1 and len(tracked) < self._points:
            rng = np.random.default_rng(index)
            count = self._points // 4
            self._call(name, "add_points", x=rng.uniform(0, 319, count), y=rng.uniform(0, 239, count))
        if index % 20 == 10:
            self._call(name, "remove_points", ids=array("Q", tracked[::2]))
        if index % 30 == 15:
            self._call(name, "remove_points", ids=array("Q", [10**9]))
            self._call(name, "add_points", x=[float("nan")], y=[-5.0])
            self._call(name, "add_points", x=np.zeros(5000), y=np.zeros(5000))
        if index % 120 == 119:
            self._call(name, "clear_points")

    def _call(self, name: str, service: str, **fields: Any) -> None:
        client = self._clients[name, service]
        values = {k: array("f", v.tolist()) if isinstance(v, np.ndarray) else v for k, v in fields.items()}
        if client.service_is_ready():
            client.call_async(KINDS[service].Request(**values))

    def _transitions(self, *labels: str) -> None:
        for label in labels:
            done = threading.Event()
            future = self._lifecycle.call_async(ChangeState.Request(transition=Transition(label=label)))
            future.add_done_callback(lambda _, done=done: done.set())
            if not done.wait(60) or not future.result().success:
                raise RuntimeError(f"the node did not {label}")
        deadline = time.monotonic() + 30
        while labels[-1] == "activate" and not self.ready():
            if time.monotonic() > deadline:
                raise RuntimeError("the node did not subscribe again")
            time.sleep(0.05)

    def _on_tracks(self, name: str, message: PointTracks) -> None:
        self.received += 1
        self._newest[name] = list(message.ids)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.status[status.name] = {pair.key: pair.value for pair in status.values} | {"text": status.message}
