"""A page in the browser for a running node: the camera's images with its tracks, and clicks that add points."""

from __future__ import annotations

import argparse
import contextlib
import sys
from array import array
from collections.abc import Sequence
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core.demos.click import PORT, ClickError, Scene, Showing, ShownPoint, serve
from taptrv2_core.demos.click.stage import html_colour, jpeg
from taptrv2_core.drawing import point_colours
from taptrv2_core.encodings import ConversionError
from taptrv2_core.errors import MissingPackageError
from taptrv2_ros.client import ClientError, Services, client_node
from taptrv2_ros.conversions import to_rgb
from taptrv2_ros.live_images import LiveImages
from taptrv2_ros.messages import NANOSECONDS, nanoseconds
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.srv import AddPoints, ClearPoints, ListPoints, RemovePoints

_SILENCE = 5.0  # seconds without anything to show before it is said


class LiveStage:
    """The newest image that the node has tracked, and the node's services. See `taptrv2_core.demos.click.Stage`."""

    def __init__(self, node: Node, topic: str, tracker: str) -> None:
        """``topic`` of the camera's images, compressed if it ends so; ``tracker``, the node's name, of several cameras
        with the camera's: ``/taptr`` or ``/taptr/front``."""
        self.showing = Showing()
        self._tracker = tracker.rstrip("/")
        self._topic = node.resolve_topic_name(topic)
        self._shown = 0
        kinds = {AddPoints: "add_points", RemovePoints: "remove_points", ClearPoints: "clear_points"}
        kinds |= {ListPoints: "list_points"}
        self._images = LiveImages(node, self._topic, self._tracker)
        self._services = Services(node, {kind: f"{self._tracker}/{name}" for kind, name in kinds.items()}, ListPoints)
        self._images.on_pair = self._show
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
        try:
            answer = self._services.call(kind, request)
        except ClientError as error:
            raise ClickError(str(error)) from None
        if not answer.success:
            raise ClickError(answer.message)

    def _show(self, image: Image | CompressedImage, tracks: PointTracks) -> None:
        self._services.meet()  # before the first click, which is of an image that the node holds for 8 images only
        try:
            rgb = to_rgb(image)
        except ConversionError as error:
            self.showing.fail(str(error))
            return
        self._shown += 1
        colours = [html_colour(rgb) for rgb in point_colours(tracks.ids)]
        columns = zip(tracks.ids, colours, tracks.found, tracks.visible, tracks.x, tracks.y, strict=True)
        points = tuple(
            ShownPoint(i, c, "visible" if visible else "hidden", x, y) if found else ShownPoint(i, c, "not found yet")
            for i, c, found, visible, x, y in columns
        )
        stamp = nanoseconds(tracks.header.stamp)
        self.showing.show(Scene(str(stamp), tracks.frame_index, jpeg(rgb), rgb.shape[1], rgb.shape[0], points))

    def _on_silence(self) -> None:
        received, self._images.received = self._images.received, 0
        if self._shown == 0:
            what = "no images" if not received else f"{received} images, but no tracks of them"
            self.showing.fail(
                f"{what} in {_SILENCE:g} s: is {self._topic} published, and does {self._tracker} track it? "
                f"(ros2 topic hz {self._topic}; ros2 topic hz {self._tracker}/tracks)"
            )
        self._shown = 0


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
    try:
        with client_node("taptr_click_page", args) as node:
            stage = LiveStage(node, options.topic, options.node)
            with contextlib.suppress(KeyboardInterrupt):  # before the server handles it
                serve(stage, options.port)
    except (OSError, MissingPackageError) as error:
        print(f"click_page: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
