"""The last depth images, and which of them is nearest to an image, by ``message_filters`` where it is installed.

Stamps, and the tolerance by which they may differ, are nanoseconds.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from rclpy.time import Time

try:
    import message_filters
except ImportError:  # it comes with a native ROS
    message_filters = None
HAVE_FILTERS = message_filters is not None

Depth = TypeVar("Depth")

_HELD = 30  # a second at 30 a second: so late may an image come out of the tracker
_OFFSET = 2**62  # nanoseconds: the synchronizer raises for stamps below 0


class OwnQueue(Generic[Depth]):
    """Finds the depth image without ``message_filters``."""

    def __init__(self, tolerance: int) -> None:
        self._tolerance = tolerance
        self._held: dict[int, Depth] = {}

    def add(self, stamp: int, depth: Depth) -> None:
        """Hold a depth image, in place of one of the same stamp: where there are no stamps, all have 0."""
        self._held.pop(stamp, None)
        self._held[stamp] = depth
        if len(self._held) > _HELD:
            del self._held[next(iter(self._held))]

    def nearest(self, stamp: int) -> Depth | None:
        """The depth image nearest in time to an image; None if none is within the tolerance."""
        near = [(abs(at - stamp), depth) for at, depth in self._held.items() if abs(at - stamp) <= self._tolerance]
        return min(near, key=lambda held: held[0])[1] if near else None


class FilterQueue(Generic[Depth]):
    """``message_filters.ApproximateTimeSynchronizer`` finds the depth image.

    It takes a pair out of its queues: the depth is put back, since images that come faster share one. And it keeps an
    image that found none: that takes the next depth near to it, which is put back just the same.
    """

    def __init__(self, tolerance: int) -> None:
        self._images, self._depths = message_filters.SimpleFilter(), message_filters.SimpleFilter()
        slop = (tolerance + 1.5) / 1e9  # seconds; they may differ by less than that, and it is cut to nanoseconds
        self._both = message_filters.ApproximateTimeSynchronizer([self._images, self._depths], _HELD, slop)
        self._both.registerCallback(self._on_pair)
        self._found: Any = None

    def add(self, stamp: int, depth: Depth) -> None:
        """As `OwnQueue.add`."""
        self._put(_message(stamp, depth))

    def nearest(self, stamp: int) -> Depth | None:
        """As `OwnQueue.nearest`."""
        found = self._signal(self._images, _message(stamp))
        if found is None:
            return None
        self._put(found)
        return found.depth

    def _put(self, depth: Any) -> None:
        while self._signal(self._depths, depth) is not None:
            pass

    def _signal(self, source: Any, message: Any) -> Any:
        """The depth of the pair that a message completes, or None."""
        self._found = None
        source.signalMessage(message)
        return self._found

    def _on_pair(self, image: Any, depth: Any) -> None:
        self._found = depth


def _message(stamp: int, depth: Any = None) -> Any:
    """What the synchronizer needs of a message."""
    return SimpleNamespace(header=SimpleNamespace(stamp=Time(nanoseconds=stamp + _OFFSET)), depth=depth)
