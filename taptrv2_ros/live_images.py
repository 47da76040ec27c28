"""The camera's images together with what the node says of them, for programs beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_ros.messages import nanoseconds
from taptrv2_ros.msg import PointTracks

_HELD = 32  # images and tracks that wait for each other


class LiveImages:
    """Pairs images and tracks by stamp, whichever comes first.

    Attributes:
        received: how many images came; whoever reads it may set it.
        on_pair: called with an image and its tracks, in the thread that spins.
    """

    def __init__(self, node: Node, topic: str, tracker: str) -> None:
        """``topic`` of the camera's images, compressed if it ends so; ``tracker``: see `client.tracker_name`."""
        self.received = 0
        self.on_pair: Callable[[Image | CompressedImage, PointTracks], None] = lambda *_: None
        self._images: dict[int, Image | CompressedImage] = {}
        self._tracks: dict[int, PointTracks] = {}
        qos = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        kind = CompressedImage if topic.endswith("/compressed") else Image
        node.create_subscription(kind, topic, self._on_image, qos)
        node.create_subscription(PointTracks, f"{tracker}/tracks", self._on_tracks, qos)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.received += 1
        self._hold(self._images, message)

    def _on_tracks(self, message: PointTracks) -> None:
        self._hold(self._tracks, message)

    def _hold(self, waiting: dict[int, Any], message: Any) -> None:
        stamp = nanoseconds(message.header.stamp)
        waiting[stamp] = message
        if len(waiting) > _HELD:
            del waiting[next(iter(waiting))]
        if stamp in self._images and stamp in self._tracks:
            self.on_pair(self._images.pop(stamp), self._tracks.pop(stamp))
