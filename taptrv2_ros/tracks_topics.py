"""Publishes ``~/tracks`` and ``~/refined_tracks``."""

from __future__ import annotations

from taptrv2_ros.messages import tracks_message
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.qos import result_qos
from taptrv2_ros.session import TrackedFrame


class TracksTopics(CameraPart):
    """All points in every tracked image, and again in the images that have become final."""

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        node, qos = context.node, result_qos(context.parameters)
        self._tracks = node.create_publisher(PointTracks, context.topic("tracks"), qos)
        self._refined = node.create_publisher(PointTracks, context.topic("refined_tracks"), qos)

    def close(self) -> None:
        for publisher in (self._tracks, self._refined):
            self.context.node.destroy_publisher(publisher)

    def wanted(self) -> bool:
        return any(publisher.get_subscription_count() for publisher in (self._tracks, self._refined))

    def on_frame(self, tracked: TrackedFrame) -> None:
        dropped = self.context.session.counters.dropped
        for publisher, results in ((self._tracks, (tracked.result,)), (self._refined, tracked.older)):
            for result in results:
                publisher.publish(
                    tracks_message(result.tracks, result.header, tracked.image_size, tracked.reset_count, dropped)
                )
