"""Times what the node does with each image, from the middleware to the published tracks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from taptrv2_ros.camera import Camera
from taptrv2_ros.messages import nanoseconds


class Probe:
    """Wraps the methods of one camera that an image goes through; put on while the node is inactive.

    Attributes:
        times: of each image, by its stamp in nanoseconds: time.time_ns() at each of `MARKS` in turn.
    """

    MARKS = ("received", "callback", "begun", "prepared", "tracked", "published")

    def __init__(self, camera: Camera) -> None:
        self.times: dict[int, dict[str, int]] = {}
        self._current = 0
        on_image, prepare, track = camera._on_image, camera.prepare, camera.track
        session_track = camera.context.session.track

        def timed_on_image(message: Any, info: dict[str, int]) -> None:
            marks = {"received": info["received_timestamp"], "callback": time.time_ns()}
            self.times[nanoseconds(message.header.stamp)] = marks
            on_image(message)

        def timed_prepare(received: Any) -> Any:
            self._current = nanoseconds(received.message.header.stamp)
            return self._around(prepare, "begun", "prepared", received)

        def timed_session_track(*arguments: Any) -> Any:
            return self._around(session_track, None, "tracked", *arguments)

        def timed_track(*arguments: Any) -> None:
            self._around(track, None, "published", *arguments)

        camera._on_image = timed_on_image  # type: ignore[method-assign,assignment]
        camera.prepare = timed_prepare  # type: ignore[method-assign,assignment]
        camera.track = timed_track  # type: ignore[method-assign,assignment]
        camera.context.session.track = timed_session_track  # type: ignore[method-assign,assignment]

    def _around(self, function: Callable[..., Any], before: str | None, after: str, *arguments: Any) -> Any:
        marks = self.times[self._current]
        if before is not None:
            marks[before] = time.time_ns()
        result = function(*arguments)
        marks[after] = time.time_ns()
        return result
