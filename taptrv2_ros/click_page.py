"""A page in the browser for a running node: the camera's images with its tracks, and clicks that add points."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from array import array
from collections.abc import Sequence
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core.demos.click import PORT, ClickError, Scene, Showing, ShownPoint, serve
from taptrv2_core.demos.click.stage import html_colour, jpeg
from taptrv2_core.drawing import point_colours
from taptrv2_core.encodings import ConversionError
from taptrv2_core.errors import MissingPackageError
from taptrv2_ros.conversions import to_rgb
from taptrv2_ros.first_contact import FirstContact
from taptrv2_ros.messages import NANOSECONDS, nanoseconds
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.srv import AddPoints, ClearPoints, ListPoints, RemovePoints

_HELD = 32  # images and tracks that wait for each other
_ANSWER = 5.0  # seconds a service may take
_SILENCE = 5.0  # seconds without anything to show before it is said


class LiveStage:
    """The newest image that the node has tracked, and the node's services. See `taptrv2_core.demos.click.Stage`."""

    def __init__(self, node: Node, topic: str, tracker: str) -> None:
        """``topic`` of the camera's images, compressed if it ends so; ``tracker``, the node's name, of several cameras
        with the camera's: ``/taptr`` or ``/taptr/front``."""
        self.showing = Showing()
        self._node, self._tracker = node, tracker.rstrip("/")
        self._topic = node.resolve_topic_name(topic)
        self._images: dict[int, Image | CompressedImage] = {}
        self._tracks: dict[int, PointTracks] = {}
        self._received, self._shown = 0, 0
        qos = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        kind = CompressedImage if self._topic.endswith("/compressed") else Image
        node.create_subscription(kind, self._topic, self._on_image, qos)
        node.create_subscription(PointTracks, f"{self._tracker}/tracks", self._on_tracks, qos)
        names = (AddPoints, "add_points"), (RemovePoints, "remove_points"), (ClearPoints, "clear_points")
        self._clients = {kind: node.create_client(kind, f"{self._tracker}/{name}") for kind, name in names}
        self._list = node.create_client(ListPoints, f"{self._tracker}/list_points")
        self._contact = FirstContact(self._list)
        self._timer = node.create_timer(_SILENCE, self._on_silence)

    def about(self) -> dict[str, Any]:
        return {"name": self._topic, "kind": "live", "images": 0}

    def add(self, image: str, x: float, y: float) -> None:
        stamp = int(image)
        picked = Time(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS)
        self._call(
            AddPoints, AddPoints.Request(x=array("f", [x]), y=array("f", [y]), image_stamp=picked, group="click")
        )

    def remove(self, point: int) -> None:
        self._call(RemovePoints, RemovePoints.Request(ids=array("Q", [point])))

    def clear(self) -> None:
        self._call(ClearPoints, ClearPoints.Request())

    def play(self, playing: bool) -> None:
        raise ClickError("a live camera cannot be stopped")

    def seek(self, index: int) -> None:
        raise ClickError("a live camera cannot go back")

    def _call(self, kind: Any, request: Any) -> None:
        client = self._clients[kind]
        if not client.service_is_ready():
            raise ClickError(f"{client.srv_name} is not there: is the node running and configured?")
        self._meet()
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(_ANSWER):
            client.remove_pending_request(future)
            self._contact = FirstContact(self._list)  # the node may be another one by now, or configured anew
            raise ClickError(f"{client.srv_name} did not answer within {_ANSWER:g} s")
        if not future.result().success:
            raise ClickError(future.result().message)

    def _meet(self) -> None:
        deadline = time.monotonic() + _ANSWER
        while not self._contact.made():
            if time.monotonic() > deadline:
                raise ClickError(f"{self._list.srv_name} did not answer within {_ANSWER:g} s")
            time.sleep(0.01)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._received += 1
        _hold(self._images, nanoseconds(message.header.stamp), message)
        self._show(nanoseconds(message.header.stamp))

    def _on_tracks(self, message: PointTracks) -> None:
        self._contact.made()  # before the first click, which is of an image that the node holds for 8 images only
        _hold(self._tracks, nanoseconds(message.header.stamp), message)
        self._show(nanoseconds(message.header.stamp))

    def _show(self, stamp: int) -> None:
        """Show the image of that stamp if it and its tracks have come, whichever was first."""
        if stamp not in self._images or stamp not in self._tracks:
            return
        image, tracks = self._images.pop(stamp), self._tracks.pop(stamp)
        try:
            rgb = to_rgb(image)
        except ConversionError as error:
            self.showing.fail(str(error))
            return
        self._shown += 1
        colours = [html_colour(rgb) for rgb in point_colours(tracks.ids)]
        columns = zip(tracks.ids, colours, tracks.visible, tracks.x, tracks.y, strict=True)
        points = tuple(
            ShownPoint(int(i), c, "visible" if v else "hidden", float(x), float(y)) for i, c, v, x, y in columns
        )
        self.showing.show(Scene(str(stamp), tracks.frame_index, jpeg(rgb), rgb.shape[1], rgb.shape[0], points))

    def _on_silence(self) -> None:
        if self._shown == 0:
            what = "no images" if not self._received else f"{self._received} images, but no tracks of them"
            self.showing.fail(
                f"{what} in {_SILENCE:g} s: is {self._topic} published, and does {self._tracker} track it? "
                f"(ros2 topic hz {self._topic}; ros2 topic hz {self._tracker}/tracks)"
            )
        self._shown = self._received = 0


def _hold(waiting: dict[int, Any], stamp: int, message: Any) -> None:
    waiting[stamp] = message
    if len(waiting) > _HELD:
        del waiting[next(iter(waiting))]


def main(args: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C. Exit status: 0, or 1 if it cannot be served."""
    words = remove_ros_args(sys.argv if args is None else ["click_page", *args])
    parser = argparse.ArgumentParser(
        prog="click_page",
        description="A page in the browser for the running node: click points, and tracks follow them.",
    )
    parser.add_argument("--topic", default="camera/image_raw", help="the images (default %(default)s)")
    parser.add_argument("--node", default="/taptr", help="with several cameras /taptr/CAMERA (default %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="on 127.0.0.1; 0: any (default %(default)s)")
    options = parser.parse_args(words[1:])
    rclpy.init(args=list(args) if args is not None else None, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("taptr_click_page")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stage = LiveStage(node, options.topic, options.node)
    thread = threading.Thread(target=_spin, args=(executor,), name="click page executor", daemon=True)
    thread.start()
    try:
        with contextlib.suppress(KeyboardInterrupt):  # before the server handles it
            serve(stage, options.port)
    except (OSError, MissingPackageError) as error:
        print(f"click_page: {error}", file=sys.stderr)
        return 1
    finally:
        executor.shutdown(timeout_sec=5.0)
        thread.join(5.0)
        node.destroy_node()
        rclpy.shutdown()
    return 0


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


if __name__ == "__main__":
    sys.exit(main())
