"""Times what the node does with each image, from the middleware to the published tracks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from taptrv2_ros.camera import Camera
from taptrv2_ros.messages import nanoseconds
from taptrv2_ros.tracks_topics import TracksTopics


class Mark(NamedTuple):
    """When something happened, in nanoseconds."""

    wall: int
    """time.time_ns()."""
    thread: int
    """CPU time of the thread in which it happened."""
    process: int
    """CPU time of all threads."""


def mark() -> Mark:
    """Now."""
    return Mark(time.time_ns(), time.thread_time_ns(), time.process_time_ns())


class Probe:
    """Wraps the methods of one camera that an image goes through; put on while the node is inactive.

    Attributes:
        times: of each image, by its stamp in nanoseconds, its `MARKS` in turn; the middleware tells wall time only.
    """

    MARKS = ("received", "callback", "handed", "begun", "prepared", "tracked", "out", "published")

    def __init__(self, camera: Camera) -> None:
        self.times: dict[int, dict[str, Mark]] = {}
        self._current = 0
        on_image, prepare = camera._on_image, camera.prepare
        topics = next(part for part in camera.parts if isinstance(part, TracksTopics))

        def timed_on_image(message: Any, info: dict[str, int]) -> None:
            marks = {"received": Mark(info["received_timestamp"], 0, 0), "callback": mark()}
            self.times[nanoseconds(message.header.stamp)] = marks
            on_image(message)
            marks["handed"] = mark()

        def timed_prepare(received: Any) -> Any:
            self._current = nanoseconds(received.message.header.stamp)
            self.times[self._current]["begun"] = mark()
            return self._then("prepared", prepare)(received)

        camera._on_image = timed_on_image  # type: ignore[method-assign,assignment]
        camera.prepare = timed_prepare  # type: ignore[method-assign,assignment]
        camera.track = self._then("published", camera.track)  # type: ignore[method-assign]
        session: Any = camera.context.session
        session.track = self._then("tracked", session.track)
        publisher: Any = topics._tracks
        publisher.publish = self._then("out", publisher.publish)

    def _then(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            result = function(*arguments)
            self.times[self._current][name] = mark()
            return result

        return timed
