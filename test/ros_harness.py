"""Node and camera as processes, and this process as the robot that asks for points and receives tracks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from waiting import wait_until

from taptrv2_ros.demo.node_process import NodeProcess
from taptrv2_ros.executors import spinning
from taptrv2_ros.first_contact import FirstContact
from taptrv2_ros.lifecycle import TrackerNode
from taptrv2_ros.msg import PointTracks, TrackerStatus
from taptrv2_ros.srv import AddPoints, AddReference, AddRegion, ClearPoints, ListPoints, RemovePoints

SIZE = (48, 64)
IMAGES = "/test/image_raw"


class Camera:
    """camera_process.py, and orders to it."""

    def __init__(self, topic: str, kind: str = "raw") -> None:
        script = Path(__file__).with_name("camera_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), topic, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def order(self, count: int, start: int, period: float = 0.0, size: tuple[int, int] = SIZE, fault: str = "") -> None:
        """Publish images; returns at once."""
        assert self._process.stdin is not None
        order = {"count": count, "start": start, "period": period, "size": size, "fault": fault}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Until the oldest order is carried out."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"

    def publish(self, count: int, start: int, **order: Any) -> None:
        """Publish images and wait until they are out."""
        self.order(count, start, **order)
        self.wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # a test failed with an order half done
            self._process.kill()
            self._process.wait()


class Robot:
    """Subscriber and service client, in this process."""

    def __init__(self, prefix: str = "/taptr") -> None:
        """``prefix`` of the camera's topics and services."""
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test_robot", context=self.context)
        self.prefix = prefix
        self.tracks: list[PointTracks] = []
        self.refined: list[PointTracks] = []
        self.status: list[TrackerStatus] = []
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(PointTracks, f"{prefix}/tracks", self.tracks.append, 100)
        self.node.create_subscription(PointTracks, f"{prefix}/refined_tracks", self.refined.append, 100)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(TrackerStatus, f"{prefix}/status", self.status.append, latched)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        kinds = {"add_points": AddPoints, "add_region": AddRegion, "remove_points": RemovePoints}
        kinds |= {"clear_points": ClearPoints, "list_points": ListPoints, "add_reference": AddReference}
        self._clients = {kind: self.node.create_client(kind, f"{prefix}/{name}") for name, kind in kinds.items()}
        supervising = {"change_state": ChangeState, "set_parameters": SetParameters, "get_state": GetState}
        self._others = {kind: self.node.create_client(kind, f"/taptr/{name}") for name, kind in supervising.items()}
        self._contact = FirstContact(self._others[GetState])  # the last of them
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def wait_for_node(self, node: NodeProcess | None = None) -> None:
        """Until its services answer, its tracks can be received, and it knows all publishers and subscriptions of this
        process; fails with its words if its process ends. Needed again where either makes new ones."""
        self._contact = FirstContact(self.node.create_client(ListPoints, f"{self.prefix}/list_points"))

        def ready() -> bool:
            if node is not None:
                node.check()
            services = all(client.service_is_ready() for client in self._clients.values())
            return services and self.node.count_publishers(f"{self.prefix}/tracks") > 0 and self._contact.made()

        wait_until(ready, "the node")

    def wait_for_tracks(self, frame_id: str) -> PointTracks:
        """The tracks of the image with that frame_id."""
        wait_until(lambda: any(t.header.frame_id == frame_id for t in self.tracks), f"tracks of {frame_id}")
        return next(t for t in self.tracks if t.header.frame_id == frame_id)

    def add(
        self, xy: list[tuple[float, float]], stamp: tuple[int, int] = (0, 0), group: str = ""
    ) -> AddPoints.Response:
        x, y = array("f", [p[0] for p in xy]), array("f", [p[1] for p in xy])
        return self.call(AddPoints, x=x, y=y, image_stamp=Time(sec=stamp[0], nanosec=stamp[1]), group=group)

    def add_region(self, xy: list[tuple[float, float]], **fields: Any) -> AddRegion.Response:
        return self.call(AddRegion, x=array("f", [p[0] for p in xy]), y=array("f", [p[1] for p in xy]), **fields)

    def add_reference(self, xy: list[tuple[float, float]], **fields: Any) -> AddReference.Response:
        return self.call(AddReference, x=array("f", [p[0] for p in xy]), y=array("f", [p[1] for p in xy]), **fields)

    def remove(self, ids: list[int], group: str = "") -> RemovePoints.Response:
        return self.call(RemovePoints, ids=array("Q", ids), group=group)

    def clear(self) -> ClearPoints.Response:
        return self.call(ClearPoints)

    def list(self) -> ListPoints.Response:
        return self.call(ListPoints)

    def call(self, kind: Any, **fields: Any) -> Any:
        """Call a service of the points or of the lifecycle and wait for its answer."""
        future = self.ask(kind, **fields)
        wait_until(future.done, f"an answer of {kind.__name__}")
        return future.result()

    def ask(self, kind: Any, **fields: Any) -> Any:
        """The same without waiting; returns the answer's future."""
        client = (self._clients | self._others)[kind]
        wait_until(lambda: client.service_is_ready() and self._contact.made(), client.srv_name)
        return client.call_async(kind.Request(**fields))

    def transition(self, label: str) -> bool:
        """Ask the node for a lifecycle transition, as a supervisor does."""
        return self.call(ChangeState, transition=Transition(label=label)).success

    def state(self) -> str:
        return self.call(GetState).current_state.label

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        return self.call(SetParameters, parameters=[Parameter(name, value=value).to_parameter_msg()]).results[0]

    def wait_for_diagnosis(self, name: str, text: str, level: bytes) -> dict[str, str]:
        """Until the next status of that name (after "taptr: ") that says so; returns its values."""

        def said() -> bool:
            status = self.diagnostics.get(f"taptr: {name}")
            return status is not None and text in status.message and status.level == level

        self.diagnostics.pop(f"taptr: {name}", None)
        try:
            wait_until(said, f"'{text}' of {name}", 20.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; said is {self.diagnostics.get(f'taptr: {name}')}") from None
        return self.values(name)

    def values(self, name: str) -> dict[str, str]:
        """Those of the newest status of that name; none if none has come."""
        status = self.diagnostics.get(f"taptr: {name}", DiagnosticStatus())
        return {pair.key: pair.value for pair in status.values}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics.update({status.name: status for status in message.status})

    def wait_for_no_node(self) -> None:
        """Until the services have gone; then forget what was received."""
        wait_until(lambda: not any(client.service_is_ready() for client in self._clients.values()), "the services' end")
        for received in (self.tracks, self.refined, self.status):
            received.clear()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


class Setup:
    """A node with a tiny network, a camera and a robot; closed in this order: camera, node, robot."""

    def __init__(self, folder: Path, weights: Path, kind: str = "raw", **parameters: Any) -> None:
        self.log, self._said = folder / "node.log", 0
        values = {
            "image_topic": IMAGES,
            "image_transport": kind,
            "image_reliability": "reliable",
            "image_queue": 100,
            "weights": str(weights),
            "device": "cpu",
            "dtype": "float32",
            **parameters,
        }
        with ExitStack() as stack:
            self.robot = Robot()
            stack.callback(self.robot.close)
            self.node = stack.enter_context(NodeProcess(values, self.log, lambda _: None))
            self.camera = Camera(IMAGES + ("/compressed" if kind == "compressed" else ""), kind)
            stack.callback(self.camera.close)
            self.robot.wait_for_node(self.node)
            self._stack = stack.pop_all()

    def __enter__(self) -> Setup:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def anew(self) -> None:
        """As just started, without the seconds that a process takes: clean up, configure, activate."""
        self.clean_up()
        self.camera.publish(0, 0)
        self.robot.wait_for_no_node()
        self._said = len(self.log.read_text())
        assert self.robot.transition("configure")
        assert self.robot.transition("activate")
        self.robot.wait_for_node(self.node)

    def clean_up(self) -> None:
        """Let the node sum up what it did, in its log."""
        for state, label in (("active", "deactivate"), ("inactive", "cleanup")):
            if self.robot.state() == state:
                assert self.robot.transition(label)

    def said(self) -> str:
        """What the node has logged since it began anew."""
        return self.log.read_text()[self._said :]

    def track(self, count: int, start: int, **order: Any) -> list[PointTracks]:
        """Publish images one at a time, each when the tracks of the one before are there; returns all their tracks."""
        found = []
        for index in range(start, start + count):
            self.camera.publish(1, index, **order)
            found.append(self.robot.wait_for_tracks(f"camera_{index}"))
        return found


@contextmanager
def node_in_this_process(weights: Path, *remapping: str, **parameters: Any) -> Iterator[TrackerNode]:
    """A node that waits for a supervisor and whose objects can be looked at; its callbacks are run."""
    values = {"autostart": False, "weights": str(weights), "image_topic": IMAGES, "image_reliability": "reliable"}
    values |= parameters
    options = [part for name, value in values.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
    options += [part for rule in remapping for part in ("-r", rule)]
    rclpy.init(args=["--ros-args", *options], signal_handler_options=SignalHandlerOptions.NO)
    node = TrackerNode()
    try:
        with spinning(node):
            yield node
        node.stop()
        node.destroy_node()
    finally:
        rclpy.shutdown()  # or a test that fails takes the next ones with it
