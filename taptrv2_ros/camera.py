"""What one camera is in ROS: an image subscription, a tracking session, and the parts around it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core import EncodedImage
from taptrv2_core.stamps import StampWatch
from taptrv2_ros.messages import nanoseconds
from taptrv2_ros.part import CameraContext
from taptrv2_ros.parts import PARTS
from taptrv2_ros.qos import image_qos, subscribe_counting_lost
from taptrv2_ros.session import Frame, Received
from taptrv2_ros.steady_clock import steady_clock

Result = TypeVar("Result")

_LOOK = 0.2  # seconds between looks at whether anybody subscribes


class Camera:
    """Images go to the worker at once; the worker comes back with `prepare` and `track`."""

    def __init__(self, context: CameraContext) -> None:
        """The context's session is connected to this camera by `tracking.py`."""
        self.context = context
        self._logger = context.node.get_logger()
        self._watch = StampWatch(context.parameters.max_gap)
        self._subscription: Subscription | None = None
        self._timer: Timer | None = None
        self._failed: set[str] = set()
        self.subscribed_since = 0.0
        self.parts = [kind(context) for kind in PARTS]

    @property
    def subscribed(self) -> bool:
        """Whether images are being received; an active but lazy camera may not."""
        return self._subscription is not None

    @property
    def message_type(self) -> type[Image | CompressedImage]:
        """Of the images."""
        return CompressedImage if self.context.parameters.image_transport == "compressed" else Image

    def activate(self) -> None:
        """Begin to receive images; where lazy, as soon as somebody wants results."""
        self.context.active = True
        node, parameters = self.context.node, self.context.parameters
        topic = node.resolve_topic_name(parameters.wire_topic)
        if topic != self.context.session.topic:
            self._watch.cut(f"images come from '{topic}' now")
            self.context.session.topic = topic
        for part in self.parts:
            part.start()
        self._follow_demand()
        # In the group of the transition services, so that none runs beside it.
        self._timer = node.create_timer(_LOOK, self._follow_demand, clock=steady_clock())
        self._changed()

    def deactivate(self) -> None:
        """Receive no images any more; what is in work is finished first."""
        self.context.active = False
        if self._timer is not None:
            self.context.node.destroy_timer(self._timer)
            self._timer = None
        self._unsubscribe()
        if self.context.worker.withdraw(self):
            self.context.session.counters.dropped += 1
        for part in self.parts:
            part.stop()
        self._changed()

    def close(self) -> None:
        """Take everything out of ROS and say how it went. The camera is inactive."""
        for part in self.parts:
            self._guarded(part.close)
        self._logger.info(f"'{self.context.session.topic}': {self.context.session.counters}")

    def apply(self, parameters: Any) -> None:
        """Work with other parameters from now on."""
        before, self.context.parameters = self.context.parameters, parameters
        self._watch.max_gap = parameters.max_gap
        if parameters.max_points != before.max_points:
            self.context.session.max_points = parameters.max_points
        self._changed()

    def prepare(self, received: Received) -> Frame | None:
        """An image ready for tracking, or None if it cannot be used. In the worker's thread."""
        if not self.context.active:  # it was being taken while the subscription went
            self.context.session.counters.dropped += 1
            return None
        return self._guarded(self.context.session.prepare, received)

    def track(self, frame: Frame, encoded: EncodedImage, begun: float) -> None:
        """Track an image and let the parts have the result. In the worker's thread.

        ``begun`` is time.monotonic() when the work on it began.
        """
        tracked = self._guarded(self.context.session.track, frame, encoded)
        if tracked is None:
            return
        step = time.monotonic() - begun
        for part in self.parts:
            self._guarded(part.on_frame, tracked)
        self.context.session.monitor.timings.append((time.monotonic() - frame.received.arrived, step))

    def on_reset(self, reason: str) -> None:
        """All images were forgotten, and all points but those of references."""
        for part in self.parts:
            self._guarded(part.on_reset, reason)

    def on_limit(self) -> None:
        """Memory allows fewer points from now on."""
        self._changed()

    def _changed(self) -> None:
        for part in self.parts:
            self._guarded(part.on_change)

    def _guarded(self, function: Callable[..., Result | None], *arguments: Any) -> Result | None:
        """What a function returns; None after an error, which is told once."""
        try:
            return function(*arguments)
        except Exception:  # one part's fault is not the others', nor one camera's
            trace = traceback.format_exc()
            problem = trace.splitlines()[-1]
            if problem not in self._failed:
                self._failed.add(problem)
                self.context.session.monitor.fault = problem
                self._logger.error(f"'{self.context.session.topic}', said once: {trace}")
            return None

    def _follow_demand(self) -> None:
        wanted = not self.context.parameters.lazy or any(part.wanted() for part in self.parts)
        if wanted and self._subscription is None and self.context.active:
            self._subscribe()
        elif not wanted and self._subscription is not None:
            self._unsubscribe()
            self._logger.info(f"nobody subscribes to results: '{self.context.session.topic}' is not received (lazy)")

    def _subscribe(self) -> None:
        parameters = self.context.parameters
        self.context.session.monitor.arrivals.clear()
        self.subscribed_since = time.monotonic()
        self._subscription = subscribe_counting_lost(
            self.context.node,
            self.message_type,
            parameters.wire_topic,
            self._on_image,
            self._on_lost,
            image_qos(parameters),
            self.context.images,
        )
        tracks = self.context.node.resolve_topic_name(self.context.topic("tracks"))
        self._logger.info(
            f"waiting for {self.message_type.__name__} on '{self.context.session.topic}' "
            f"({parameters.image_reliability}), tracks on '{tracks}'"
        )

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self.context.node.destroy_subscription(self._subscription)
            self._subscription = None

    def _on_lost(self, count: int) -> None:
        self.context.session.counters.lost += count

    def _on_image(self, message: Image | CompressedImage) -> None:
        monitor = self.context.session.monitor
        counters, arrived = monitor.counters, time.monotonic()
        monitor.arrivals.append(arrived)
        counters.received += 1
        continuity = self._watch.receive(nanoseconds(message.header.stamp))
        if continuity is None:
            counters.repeated += 1
        elif self.context.worker.offer(self, Received(message, continuity, arrived)):
            counters.dropped += 1
