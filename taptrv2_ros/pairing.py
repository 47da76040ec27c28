"""Tracked images and depth images paired by stamp.

``message_filters`` is not used: it gives both out together or not at all, but an image is to be tracked at once, and
also when its depth is missing; what waits for the depth here are the tracks. It also gives a depth to one image only.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")
Depth = TypeVar("Depth")

_DEPTHS_HELD = 30  # a second at 30 a second: so late may an image come out of the tracker
_ITEMS_WAITING = 10  # images whose depth may be outstanding


class Pairing(Generic[Item, Depth]):
    """Gives each item the depth nearest in time, once it is known which that is; stamps are nanoseconds.

    An item is settled when a depth of its own stamp or a later one is there, when the next depth, by the interval of
    the last two, cannot be nearer than the one there is, or when ten later items wait. Not thread-safe.
    """

    def __init__(self, tolerance: int) -> None:
        """Nanoseconds by which the stamps may differ."""
        self._tolerance = tolerance
        self._depths: deque[tuple[int, Depth]] = deque(maxlen=_DEPTHS_HELD)
        self._waiting: deque[tuple[int, Item]] = deque()

    def add_depth(self, stamp: int, depth: Depth) -> list[tuple[Item, Depth | None]]:
        """A depth image has come; returns the items that are settled by it, None where they have no depth."""
        if self._depths and stamp < self._depths[-1][0]:
            self._depths.clear()  # time was set back: a recording that starts anew
        self._depths.append((stamp, depth))
        return self._settle()

    def add_item(self, stamp: int, item: Item) -> list[tuple[Item, Depth | None]]:
        """An image has been tracked; returns the items that are settled by now."""
        self._waiting.append((stamp, item))
        return self._settle()

    def clear(self) -> None:
        """Forget all that wait, and all depth images."""
        self._depths.clear()
        self._waiting.clear()

    def _settle(self) -> list[tuple[Item, Depth | None]]:
        settled = []
        while self._waiting and (self._is_settled(self._waiting[0][0]) or len(self._waiting) > _ITEMS_WAITING):
            stamp, item = self._waiting.popleft()
            settled.append((item, self._nearest(stamp)))
        return settled

    def _is_settled(self, stamp: int) -> bool:
        if not self._depths:
            return False
        newest = self._depths[-1][0]
        if newest >= stamp:
            return True
        if len(self._depths) < 2 or stamp - newest > self._tolerance:
            return False
        return 2 * (stamp - newest) <= newest - self._depths[-2][0]

    def _nearest(self, stamp: int) -> Depth | None:
        if not self._depths:
            return None
        at, depth = min(self._depths, key=lambda held: abs(held[0] - stamp))
        return depth if abs(at - stamp) <= self._tolerance else None
