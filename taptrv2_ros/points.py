"""Which points of a camera are tracked: asked for as pixels, regions or clicks, in groups, removed by id or group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray

from taptrv2_core import PointError, Queries, Tracker
from taptrv2_core.encodings import RgbImage
from taptrv2_core.fast.allocator import is_out_of_memory, release_freed_memory
from taptrv2_core.regions import points_in_region
from taptrv2_ros.groups import AUTOMATIC, CLICKED, Groups
from taptrv2_ros.messages import nanoseconds, time_message

Coordinates: TypeAlias = Sequence[float] | NDArray[np.float64]


class Points:
    """Answers requests. Not thread-safe: called from the worker's thread, but for `spread`.

    Each method raises PointError with a message for the client when a request cannot be granted; then nothing changes.

    Attributes:
        make_room: called with a number of points that are about to be added; gives up points nobody asked for.
    """

    def __init__(self, tracker: Tracker, topic: Callable[[], str]) -> None:
        """``topic``: the images' full name now, for messages that say where to look."""
        self._tracker = tracker
        self._topic = topic
        self.groups = Groups()
        self.make_room: Callable[[int], None] = lambda _: None

    def spread(
        self, x: Coordinates, y: Coordinates, count: int, spacing: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y of points spread over a region of the image, as `taptrv2_core.regions` does. From any thread: it may
        take longer than an image."""
        if len(x) != len(y):
            raise PointError(f"{len(x)} values of x but {len(y)} of y; each vertex needs both")
        points = points_in_region(
            np.stack((x, y), axis=-1), self._image_size(), count=count, spacing=spacing, most=self._tracker.max_points
        )
        return points[:, 0], points[:, 1]

    def add(self, x: Coordinates, y: Coordinates, stamp: Time, group: str = "") -> list[int]:
        """Add points (pixels) at the image of that stamp, 0 meaning the newest, to a group; returns their ids."""
        self.groups.check(group)
        return self._add(x, y, nanoseconds(stamp), group)

    def add_reference(self, picture: RgbImage, x: Coordinates, y: Coordinates, group: str = "") -> list[int]:
        """Look for points (pixels) of a picture that is not part of the stream, as `look_for` does, but once there is a
        stream, so that a picture too large for it is refused."""
        self._image_size()
        return self.look_for(picture, _pairs(x, y), group)

    def look_for(self, picture: RgbImage, xy: NDArray[np.float64], group: str = "") -> list[int]:
        """The same, also before the first image, which they wait for; ``xy`` (N, 2). Raises ImageError too."""
        self.groups.check(group)
        return self._granted(len(xy), lambda: self._tracker.add_reference(picture, xy), group)

    def start_anew(self) -> None:
        """The tracker was reset: it still has points of references, which keep their groups."""
        self.groups.keep(frozenset(self._tracker.queries().ids.tolist()))

    def click(self, x: float, y: float, stamp: Time) -> None:
        """Add a point where somebody clicked.

        It belongs to the newest image that is not newer than the click, if that is still held. Tools stamp clicks by a
        clock of their own; where no image held fits, the newest is meant.
        """
        before = [held for held in self._tracker.held_stamps if held <= nanoseconds(stamp)]
        self._add([x], [y], before[-1] if before else 0, CLICKED)

    def remove(self, ids: Sequence[int], group: str = "") -> int:
        """Remove points by id, and a whole group; returns how many."""
        gone = {int(point) for point in ids}
        if group:
            gone.update(self.groups.members(group))
        self.forget(gone)
        return len(gone)

    def clear(self) -> int:
        """Remove all points; returns how many there were."""
        count = self._tracker.num_points
        self.forget(self._tracker.queries().ids.tolist())
        return count

    def tracked(self) -> tuple[Queries, Time]:
        """What is tracked, and the stamp of the newest image (0 before the first)."""
        held = self._tracker.held_stamps
        return self._tracker.queries(), time_message(held[-1]) if held else Time()

    def ranked(self) -> list[int]:
        """All points, those first that are to be kept longest: clients' before the node's own, old before new."""
        automatic = set(self.groups.having(AUTOMATIC))
        return sorted(self._tracker.queries().ids.tolist(), key=lambda point: (point in automatic, point))

    def forget(self, ids: Iterable[int]) -> None:
        """Stop tracking points and forget their groups."""
        gone = list(ids)
        self._tracker.remove_points(gone)
        self.groups.forget(gone)

    def _add(self, x: Coordinates, y: Coordinates, picked: int, group: str) -> list[int]:
        self._image_size()
        xy = _pairs(x, y)
        return self._granted(len(xy), lambda: self._tracker.add_points(xy, picked if picked else None), group)

    def _granted(self, count: int, add: Callable[[], list[int]], group: str) -> list[int]:
        """Ids of so many points that are added to a group, where there is room and memory."""
        if count > self._tracker.max_points - self._tracker.num_points:
            self.make_room(count)
        try:
            ids = add()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            release_freed_memory()
            raise PointError(f"the device has no memory for {count} more points: {error}") from error
        self.groups.assign(ids, group)
        return ids

    def _image_size(self) -> tuple[int, int]:
        """Of the stream's images; refuses requests before the first."""
        size = self._tracker.image_size
        if size is None:
            topic = self._topic()
            raise PointError(
                f"no image has been tracked yet on '{topic}', so there is nothing to pick points in: check that it is "
                f"published (ros2 topic hz {topic}) and that image_topic and image_transport are right"
            )
        return size


def _pairs(x: Coordinates, y: Coordinates) -> NDArray[np.float64]:
    """(N, 2) x, y."""
    if len(x) != len(y):
        raise PointError(f"{len(x)} values of x but {len(y)} of y; each point needs both")
    return np.stack((x, y), axis=-1).astype(np.float64)
