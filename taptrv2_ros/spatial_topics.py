"""Publishes tracked points in space, for manipulation: depth and calibration in, ``PointCloud2`` and markers out."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from taptrv2_core.camera_model import CalibrationError
from taptrv2_core.depth import depth_at, points_in_space
from taptrv2_core.encodings import ConversionError
from taptrv2_ros.calibration import camera_model, check_registered
from taptrv2_ros.conversions import to_depth
from taptrv2_ros.messages import NANOSECONDS, nanoseconds
from taptrv2_ros.pairing import Pairing
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.qos import image_qos
from taptrv2_ros.session import MOST_PROBLEMS, TrackedFrame
from taptrv2_ros.spatial_messages import SpatialPoints, cloud_message, marker_message

_QUEUE = 5
_RECENT = 20  # images that say whether there is a problem: one in seven without depth is none
_FEW = 4  # nor are so many, at the start


@dataclass(frozen=True)
class _Waiting:
    """The points in an image whose depth may still come."""

    tracked: TrackedFrame
    group: NDArray[np.uint32]
    group_names: list[str]


class SpatialTopics(CameraPart):
    """``~/points`` and ``~/markers``, where ``depth_topic`` is set.

    Nothing waits here: an image is tracked and its tracks are published whether or not its depth comes. Called from the
    worker's thread and from the executor's.
    """

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        self._lock = threading.RLock()
        self._subscriptions: list[Subscription] = []
        self._info: CameraInfo | None = None
        self._told: set[str] = set()
        self._problems: deque[str] = deque(maxlen=_RECENT)
        self._cloud = context.node.create_publisher(PointCloud2, context.topic("points"), _QUEUE)
        self._markers = context.node.create_publisher(MarkerArray, context.topic("markers"), _QUEUE)
        self._pairing: Pairing[_Waiting, Image | CompressedImage] = Pairing(0)

    def start(self) -> None:
        node, parameters = self.context.node, self.context.parameters
        self._pairing = Pairing(round(parameters.depth_tolerance * NANOSECONDS))
        self._info = None
        self._problems.clear()
        if not parameters.depth_topic:
            return
        small = QoSProfile(depth=_QUEUE, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        group = MutuallyExclusiveCallbackGroup()
        kind = CompressedImage if parameters.depth_topic.endswith("/compressedDepth") else Image
        self._subscriptions = [
            node.create_subscription(
                kind, parameters.depth_topic, self._on_depth, image_qos(parameters), callback_group=group
            ),
            node.create_subscription(CameraInfo, parameters.info_topic, self._on_info, small, callback_group=group),
        ]

    def stop(self) -> None:
        for subscription in self._subscriptions:
            self.context.node.destroy_subscription(subscription)
        self._subscriptions = []
        with self._lock:
            self._pairing.clear()

    def close(self) -> None:
        for publisher in (self._cloud, self._markers):
            self.context.node.destroy_publisher(publisher)

    def wanted(self) -> bool:
        return bool(self._cloud.get_subscription_count() or self._markers.get_subscription_count())

    def problem(self) -> str:
        with self._lock:
            recent = Counter(self._problems)
        worst, images = max(recent.items(), key=lambda item: item[1], default=("", 0))
        return worst if images > max(recent.total() / 2, _FEW) else ""

    def on_frame(self, tracked: TrackedFrame) -> None:
        if self._subscriptions:
            waiting = _Waiting(tracked, *self.context.session.points.groups.table(tracked.result.tracks.ids.tolist()))
            with self._lock:
                self._settle(self._pairing.add_item(nanoseconds(tracked.result.header.stamp), waiting))

    def on_reset(self, reason: str) -> None:
        with self._lock:
            self._pairing.clear()

    def _on_info(self, message: CameraInfo) -> None:
        if self._info is None:
            lens = message.distortion_model or "no distortion"
            self.context.node.get_logger().info(
                f"calibration on '{self._info_topic}': {message.width}x{message.height} pixels, {lens}"
            )
        self._info = message

    def _on_depth(self, message: Image | CompressedImage) -> None:
        with self._lock:
            self._settle(self._pairing.add_depth(nanoseconds(message.header.stamp), message))

    def _settle(self, pairs: list[tuple[_Waiting, Image | CompressedImage | None]]) -> None:
        for waiting, depth in pairs:
            problem = self._missing if depth is None else self._publish(waiting, depth)
            self._problems.append(problem)
            if problem:
                self.context.session.counters.without_depth += 1
            if problem != self._missing or self.problem() == self._missing:  # one that is missing is nothing to tell
                self._tell(problem)

    def _publish(self, waiting: _Waiting, depth: Image | CompressedImage) -> str:
        """Publish an image's points in space to those who subscribe; returns why that cannot be done, or nothing."""
        info = self._info
        if info is None:
            return f"depth comes, but no camera_info on '{self._info_topic}' (parameter camera_info_topic)"
        cloud, markers = (p.get_subscription_count() > 0 for p in (self._cloud, self._markers))
        if not (cloud or markers):
            return ""
        try:
            points = self._points(waiting, depth, info)
        except (CalibrationError, ConversionError) as error:
            return str(error)
        except Exception as error:  # nobody foresaw it; the next ones may do
            return f"{type(error).__name__} in the node: {error}"
        if cloud:
            self._cloud.publish(cloud_message(points))
        if markers:
            self._markers.publish(marker_message(points))
        return ""

    def _points(self, waiting: _Waiting, message: Image | CompressedImage, info: CameraInfo) -> SpatialPoints:
        header, size = waiting.tracked.result.header, waiting.tracked.image_size
        if message.header.frame_id != header.frame_id:
            self._tell(
                f"depth is in frame '{message.header.frame_id}', images are in '{header.frame_id}': points in space "
                "are right only if the depth is registered to the images"
            )
        camera, depth = camera_model(info, size, self.context.parameters.image_rectified), to_depth(message)
        check_registered(depth, size)
        tracks = waiting.tracked.result.tracks
        metres = np.where(tracks.visible, depth_at(depth, tracks.xy, size), np.nan)
        xyz = points_in_space(camera, tracks.xy, metres)
        return SpatialPoints(header, tracks, waiting.group, waiting.group_names, xyz)

    @property
    def _missing(self) -> str:
        parameters = self.context.parameters
        return (
            f"no depth on '{self.context.node.resolve_topic_name(parameters.depth_topic)}' within "
            f"{parameters.depth_tolerance:g} s of the images' stamps (parameters depth_topic, depth_tolerance)"
        )

    @property
    def _info_topic(self) -> str:
        return str(self.context.node.resolve_topic_name(self.context.parameters.info_topic))

    def _tell(self, problem: str) -> None:
        """Each kind of problem once: numbers that follow a colon may differ from image to image."""
        kind = problem.split(":")[0]
        if problem and kind not in self._told and len(self._told) < MOST_PROBLEMS:
            self._told.add(kind)
            self.context.node.get_logger().warning(f"points in space: {problem}")
