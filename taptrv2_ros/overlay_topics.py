"""Publishes ``~/overlay``: the camera's images with the points drawn in, for people to look at."""

from __future__ import annotations

from array import array

from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core.drawing import DrawStyle, PointDrawer
from taptrv2_core.encodings import JPEG_FORMAT, encode_jpeg
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.session import TrackedFrame
from taptrv2_ros.worker import Worker

_QUALITY = 80  # of the JPEG
_QUEUE = 2
_STOP = 5.0  # seconds


class OverlayTopics(CameraPart):
    """Raw and as JPEG, each only while somebody subscribes, in a thread of its own, so that tracking never waits.

    When images come faster than they can be drawn, the newest wins. Pictures have the camera's size, so that a click in
    one is a click in the camera's image. Points of references are drawn from when they are found.
    """

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        topic = context.topic("overlay")
        self._raw = context.node.create_publisher(Image, topic, _QUEUE)
        self._compressed = context.node.create_publisher(CompressedImage, f"{topic}/compressed", _QUEUE)
        self._drawer = PointDrawer(DrawStyle(labels=True))
        self._resets = 0
        self._worker: Worker[str, TrackedFrame] = Worker(self._draw, "taptr overlay", context.node.get_logger().error)
        self._worker.start()

    def close(self) -> None:
        self._worker.stop(_STOP)
        for publisher in (self._raw, self._compressed):
            self.context.node.destroy_publisher(publisher)

    def wanted(self) -> bool:
        return bool(self._raw.get_subscription_count() or self._compressed.get_subscription_count())

    def on_frame(self, tracked: TrackedFrame) -> None:
        if self.wanted():
            self._worker.offer("image", tracked)

    def _draw(self, newest: dict[str, TrackedFrame]) -> None:
        for tracked in newest.values():
            if tracked.reset_count != self._resets:
                self._drawer.reset()
                self._resets = tracked.reset_count
            tracks, header = tracked.result.tracks, tracked.result.header
            picture = self._drawer.draw(tracked.frame.rgb, tracks.ids, tracks.found_xy, tracks.visible)
            if self._raw.get_subscription_count():
                size = {"height": picture.shape[0], "width": picture.shape[1], "step": 3 * picture.shape[1]}
                self._raw.publish(Image(header=header, encoding="rgb8", data=array("B", picture.tobytes()), **size))
            if self._compressed.get_subscription_count():
                data = array("B", encode_jpeg(picture, _QUALITY))
                self._compressed.publish(CompressedImage(header=header, format=JPEG_FORMAT, data=data))
