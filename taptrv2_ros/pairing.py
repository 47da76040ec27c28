"""Tracked images and depth images paired by stamp.

``depth_queue`` finds an image's depth, through ``message_filters`` where that is installed. Here is what that lacks: it
gives both out together or not at all, at once though a nearer depth may come. An image is to be tracked also when its
depth is late or missing; what waits here are its tracks, until it is known which depth is nearest, or that none is.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from taptrv2_ros.depth_queue import HAVE_FILTERS, FilterQueue, OwnQueue

Item = TypeVar("Item")
Depth = TypeVar("Depth")

_ITEMS_WAITING = 10  # images whose depth may be outstanding


class Pairing(Generic[Item, Depth]):
    """Gives each item the depth nearest in time, once it is known which that is; stamps are nanoseconds.

    An item is settled when a depth of its own stamp or a later one is there, when the next depth, by the interval of
    the last two, cannot be nearer than the one there is, or when ten later items wait. Not thread-safe.
    """

    def __init__(self, tolerance: int, filtered: bool = HAVE_FILTERS) -> None:
        """``tolerance``: nanoseconds by which the stamps may differ; ``filtered``: by ``message_filters``."""
        self._tolerance = tolerance
        self._filtered = filtered
        self.clear()

    def add_depth(self, stamp: int, depth: Depth) -> list[tuple[Item, Depth | None]]:
        """A depth image has come; returns the items that are settled by it, None where they have no depth."""
        if self._newest and stamp < self._newest[-1]:
            self._forget_depths()  # time was set back: a recording that starts anew
        self._newest.append(stamp)
        self._depths.add(stamp, depth)
        return self._settle()

    def add_item(self, stamp: int, item: Item) -> list[tuple[Item, Depth | None]]:
        """An image has been tracked; returns the items that are settled by now."""
        self._waiting.append((stamp, item))
        return self._settle()

    def clear(self) -> None:
        """Forget all that wait, and all depth images."""
        self._waiting: deque[tuple[int, Item]] = deque()
        self._forget_depths()

    def _forget_depths(self) -> None:
        kind = FilterQueue if self._filtered else OwnQueue
        self._depths: FilterQueue[Depth] | OwnQueue[Depth] = kind(self._tolerance)
        self._newest: deque[int] = deque(maxlen=2)  # stamps of the depths that came last

    def _settle(self) -> list[tuple[Item, Depth | None]]:
        settled = []
        while self._waiting and (self._is_settled(self._waiting[0][0]) or len(self._waiting) > _ITEMS_WAITING):
            stamp, item = self._waiting.popleft()
            settled.append((item, self._depths.nearest(stamp)))
        return settled

    def _is_settled(self, stamp: int) -> bool:
        if not self._newest:
            return False
        newest = self._newest[-1]
        if newest >= stamp:
            return True
        if len(self._newest) < 2 or stamp - newest > self._tolerance:
            return False
        return 2 * (stamp - newest) <= newest - self._newest[0]
