"""Publishes ``~/tracks`` and ``~/refined_tracks``."""

from __future__ import annotations

from taptrv2_core.velocity import Velocities
from taptrv2_ros.messages import NANOSECONDS, nanoseconds, tracks_message
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
        self._velocities = {self._tracks: Velocities(), self._refined: Velocities()}

    def close(self) -> None:
        for publisher in (self._tracks, self._refined):
            self.context.node.destroy_publisher(publisher)

    def wanted(self) -> bool:
        return any(publisher.get_subscription_count() for publisher in (self._tracks, self._refined))

    def on_reset(self, reason: str) -> None:
        self._velocities = {publisher: Velocities() for publisher in self._velocities}

    def on_frame(self, tracked: TrackedFrame) -> None:
        session = self.context.session
        for publisher, results in ((self._tracks, (tracked.result,)), (self._refined, tracked.older)):
            for tracks, header in ((result.tracks, result.header) for result in results):
                velocity = self._velocities[publisher].update(tracks, nanoseconds(header.stamp) / NANOSECONDS)
                if not publisher.get_subscription_count():
                    continue
                message = tracks_message(tracks, header, tracked.image_size, velocity, session.points.groups)
                message.reset_count, message.dropped_images = tracked.reset_count, session.counters.dropped
                publisher.publish(message)
