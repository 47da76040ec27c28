"""Publishes ``~/status``: what consumers of tracks need to know beside them, whenever it changes."""

from __future__ import annotations

import threading

from taptrv2_ros.msg import TrackerStatus
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.qos import LATCHED


class StatusTopic(CameraPart):
    """Latched: a consumer that comes later gets the newest state."""

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        self._lock = threading.Lock()  # what is published last is the newest, whichever threads see changes
        self._publisher = context.node.create_publisher(TrackerStatus, context.topic("status"), LATCHED)
        self.on_change()

    def close(self) -> None:
        self.context.node.destroy_publisher(self._publisher)

    def on_reset(self, reason: str) -> None:
        self.on_change()

    def on_change(self) -> None:
        session = self.context.session
        with self._lock:
            status = TrackerStatus(active=self.context.active, reset_count=session.counters.resets)
            status.stamp = self.context.node.get_clock().now().to_msg()
            status.reset_reason = session.monitor.reset_reason
            status.max_points = session.max_points
            self._publisher.publish(status)
