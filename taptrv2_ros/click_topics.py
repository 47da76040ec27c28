"""Points by clicks in a picture: of Foxglove, rqt_image_view, or whatever publishes them."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PointStamped
from rclpy.subscription import Subscription

from taptrv2_core import PointError
from taptrv2_ros.part import CameraContext, CameraPart

_QUEUE = 10


class ClickTopics(CameraPart):
    """A click adds a point to the group "click".

    ``~/click`` takes ``PointStamped`` as Foxglove publishes it. ``Point`` is taken from the topics rqt_image_view
    publishes on: the name of the image it shows, the camera's or the overlay, with ``_mouse_left`` appended.
    """

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        self._subscriptions: list[Subscription] = []

    def start(self) -> None:
        context = self.context
        group = context.requests
        overlay = context.node.resolve_topic_name(context.topic("overlay"))
        shown = dict.fromkeys((context.parameters.image_topic, context.parameters.wire_topic, overlay))
        self._subscriptions = [
            context.node.create_subscription(
                PointStamped, context.topic("click"), self._on_stamped, _QUEUE, callback_group=group
            )
        ]
        for topic in (*shown, f"{overlay}/compressed"):
            self._subscriptions.append(
                context.node.create_subscription(
                    Point, f"{topic}_mouse_left", self._on_point, _QUEUE, callback_group=group
                )
            )

    def stop(self) -> None:
        for subscription in self._subscriptions:
            self.context.node.destroy_subscription(subscription)
        self._subscriptions = []

    def _on_stamped(self, message: PointStamped) -> None:
        self._add(message.point, message.header.stamp)

    def _on_point(self, message: Point) -> None:
        self._add(message, Time())

    def _add(self, point: Point, stamp: Time) -> None:
        def add() -> None:
            if point.z:
                raise PointError(
                    f"it has z = {point.z:g} and so is a point in space; a click in an image has x, y in pixels, z = 0"
                )
            self.context.run(lambda: self.context.session.points.click(point.x, point.y, stamp))

        self.context.request(f"click at ({point.x:g}, {point.y:g})", add)
