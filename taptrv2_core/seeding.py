"""Points nobody asked for: corners kept tracked, well spread, as a visual odometry front end wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.tracker import Tracker
from taptrv2_core.tracks import Tracks

_EVERY = 4
"""Updates between looks for new corners: the tracker's committing windows are as far apart."""
_ENOUGH = 0.95
"""Share of the target above which no corners are looked for."""
_CANDIDATES = 8
"""Corners found for each one wanted, so that there is a choice of where."""

_WIDEST = 640
"""Corners are found in images of at most this many pixels a side; larger ones are shrunk for it."""


@dataclass(frozen=True)
class SeedingOptions:
    """How many points are kept, where they start and when they end.

    Attributes:
        target_points: points kept alive, beside those that others added.
        min_distance: pixels between a new point and any other; 0: half the distance that spreads the target evenly.
        quality: a corner's strength (least eigenvalue, Shi and Tomasi 1994) against the strongest one's, in (0, 1).
        retire_seconds: a point that was hidden or outside the image for so long is given up.
    """

    target_points: int
    min_distance: float = 0.0
    quality: float = 0.01
    retire_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.target_points < 1:
            raise ValueError(f"target_points is {self.target_points}; it must be at least 1")
        if not self.min_distance >= 0:
            raise ValueError(f"min_distance is {self.min_distance}; it must be 0 or more pixels")
        if not 0 < self.quality < 1:
            raise ValueError(f"quality is {self.quality}; it must lie between 0 and 1")
        if not self.retire_seconds >= 0:
            raise ValueError(f"retire_seconds is {self.retire_seconds}; it must be 0 or more")


@dataclass(frozen=True)
class SeedingChange:
    """Ids an update started and ended."""

    added: tuple[int, ...] = ()
    retired: tuple[int, ...] = ()


class Seeder:
    """Keeps a tracker supplied with points. It removes none but its own.

        for image, seconds in frames:
            tracks = tracker.step(image)
            seeder.update(tracker, image, tracks, seconds)

    Points removed by others and resets of the tracker need not be told.
    """

    def __init__(self, options: SeedingOptions) -> None:
        self.options = options
        self._last_seen: dict[int, float] = {}  # of the points it started, oldest first: ids rise
        self._updates = 0

    @property
    def ids(self) -> tuple[int, ...]:
        """The points it started and still keeps, oldest first."""
        return tuple(self._last_seen)

    def update(self, tracker: Tracker, image: NDArray[np.uint8], tracks: Tracks, seconds: float) -> SeedingChange:
        """Retire and add points after a step of the tracker.

        Args:
            tracker: whose newest frame is ``image``.
            image: (H, W, 3) RGB or (H, W) grey, uint8, as given to the tracker.
            tracks: what `Tracker.step` returned for it.
            seconds: time of the image, by any clock that goes forward.
        """
        size = (int(image.shape[0]), int(image.shape[1]))
        looks_around = self._updates % _EVERY == 0
        self._updates += 1
        retired = self._retire(tracks, size, seconds)
        if looks_around:
            retired += self._crowded(tracks, size)
        tracker.remove_points(retired)
        others = tracker.num_points - len(self._last_seen)
        retired += self._give_up(tracker, max(0, min(self.options.target_points, tracker.max_points - others)))
        added = self._seed(tracker, image, size) if looks_around else []
        self._last_seen.update(dict.fromkeys(added, seconds))
        return SeedingChange(tuple(added), tuple(retired))

    def make_room(self, tracker: Tracker, count: int) -> tuple[int, ...]:
        """Give up own points, the youngest first, so that others can add ``count``; returns those given up.

        None where all of them would not make room enough.
        """
        self._forget_removed(tracker)
        excess = tracker.num_points + count - tracker.max_points
        own = len(self._last_seen)
        return self._give_up(tracker, own - excess if 0 < excess <= own else own)

    def clear(self, tracker: Tracker) -> tuple[int, ...]:
        """Give up all own points; returns them."""
        self._forget_removed(tracker)
        return self._give_up(tracker, 0)

    def _forget_removed(self, tracker: Tracker) -> None:
        followed = set(tracker.queries().ids.tolist())
        self._last_seen = {point: last for point, last in self._last_seen.items() if point in followed}

    def _give_up(self, tracker: Tracker, kept: int) -> tuple[int, ...]:
        """Give up all own points but so many of the oldest."""
        given_up = self.ids[kept:]
        tracker.remove_points(given_up)
        for point in given_up:
            del self._last_seen[point]
        return given_up

    def _seed(self, tracker: Tracker, image: NDArray[np.uint8], size: tuple[int, int]) -> list[int]:
        """Add points on corners where none is seen, if many are missing; returns their ids."""
        target, own = self.options.target_points, len(self._last_seen)
        missing = min(target - own, tracker.max_points - tracker.num_points)
        if missing <= 0 or own > _ENOUGH * target:
            return []
        now = tracker.queries()
        taken = np.stack((now.x, now.y), axis=-1)[now.visible]
        return tracker.add_points(spread_corners(image, missing, taken, self._distance(size), self.options.quality))

    def _retire(self, tracks: Tracks, size: tuple[int, int], seconds: float) -> list[int]:
        """Own points that were not seen for long; forgets those that are no longer tracked."""
        inside = (tracks.xy > -0.5).all(axis=1) & (tracks.xy < (size[1] - 0.5, size[0] - 0.5)).all(axis=1)
        seen = dict(zip(tracks.ids.tolist(), (tracks.visible & inside).tolist(), strict=True))
        retired = []
        for point, last in list(self._last_seen.items()):
            if point not in seen:
                del self._last_seen[point]
            elif seen[point] or seconds < last:  # or the clock was set back: count from now
                self._last_seen[point] = seconds
            elif seconds - last >= self.options.retire_seconds:
                del self._last_seen[point]
                retired.append(point)
        return retired

    def _crowded(self, tracks: Tracks, size: tuple[int, int]) -> list[int]:
        """Own points that have come closer than half the least distance to an older point."""
        radius = max(1, round(self._distance(size) / 2))
        covered = np.zeros(size, dtype=np.uint8)
        crowded = []
        # Others' points first: it is never they who have to go.
        order = np.argsort(np.isin(tracks.ids, self.ids), kind="stable")
        for row in order[tracks.visible[order]]:
            place, point = _pixel(tracks.xy[row], size), int(tracks.ids[row])
            if covered[place[1], place[0]] and point in self._last_seen:
                del self._last_seen[point]
                crowded.append(point)
            else:
                cv2.circle(covered, place, radius, 255, -1)
        return crowded

    def _distance(self, size: tuple[int, int]) -> float:
        return self.options.min_distance or _half_spread(size, self.options.target_points)


def spread_corners(
    image: NDArray[np.uint8],
    count: int,
    taken: NDArray[np.floating] | Sequence[tuple[float, float]] = (),
    min_distance: float = 0.0,
    quality: float = 0.01,
) -> NDArray[np.float32]:
    """Up to ``count`` Shi-Tomasi corners, where there are fewest points first.

    Args:
        image: (H, W, 3) RGB or (H, W) grey, uint8.
        count: most corners.
        taken: (N, 2) x, y in pixels of points that are there already.
        min_distance: pixels between corners, and between a corner and what is taken; 0: half the distance that would
            spread them all evenly.
        quality: least strength, as a share of the strongest corner's among those not taken.

    Returns:
        (M, 2) x, y in pixels, M <= count; none in an image without corners. In images wider or higher than 640 pixels
        they are found at that size and off by as many pixels as the image was shrunk.
    """
    grey, shrink = _shrunk(image)
    size = (int(grey.shape[0]), int(grey.shape[1]))
    places = (np.asarray(taken, dtype=np.float32).reshape(-1, 2) + 0.5) * shrink - 0.5
    free = np.full(size, 255, dtype=np.uint8)
    distance = max(1.0, min_distance * shrink or _half_spread(size, count + len(places)))
    for place in places:
        cv2.circle(free, _pixel(place, size), round(distance), 0, -1)
    found = cv2.goodFeaturesToTrack(grey, _CANDIDATES * count, quality, distance, mask=free)
    if found is None:
        return np.zeros((0, 2), dtype=np.float32)
    corners = np.asarray(found, dtype=np.float32).reshape(-1, 2)
    chosen = corners[_emptiest_first(corners, places, size, count)]
    return ((chosen + 0.5) / shrink - 0.5).astype(np.float32)


def _shrunk(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The image in grey, at a size at which corners are found in a few milliseconds, and its scale."""
    grey: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    shrink = min(1.0, _WIDEST / max(grey.shape))
    if shrink < 1:
        shape = round(grey.shape[1] * shrink), round(grey.shape[0] * shrink)
        grey = cv2.resize(grey, shape, interpolation=cv2.INTER_AREA)
    return grey, shrink


def _emptiest_first(
    corners: NDArray[np.float32], taken: NDArray[np.float32], size: tuple[int, int], count: int
) -> NDArray[np.int64]:
    """Rows of the corners (strongest first) to take: the image is cut into cells, and those with fewest come first."""
    side = np.sqrt(size[0] * size[1] / (count + len(taken)))
    columns = int(size[1] // side) + 1

    def cells(points: NDArray[np.float32]) -> Iterable[int]:
        column, row = np.clip(points // side, 0, columns - 1).astype(np.int64).T
        return (row * columns + column).tolist()

    filled: dict[int, int] = {}
    for cell in cells(taken):
        filled[cell] = filled.get(cell, 0) + 1
    turns = np.empty(len(corners), dtype=np.int64)
    for row, cell in enumerate(cells(corners)):
        turns[row] = filled[cell] = filled.get(cell, 0) + 1
    return np.argsort(turns, kind="stable")[:count]


def _half_spread(size: tuple[int, int], count: int) -> float:
    """Half the distance between neighbours of so many points that are spread evenly."""
    return 0.5 * float(np.sqrt(size[0] * size[1] / count))


def _pixel(place: NDArray[np.floating], size: tuple[int, int]) -> tuple[int, int]:
    """Column and row of the pixel a position lies in, the nearest one of the image."""
    x, y = np.rint(place)
    return int(np.clip(x, 0, size[1] - 1)), int(np.clip(y, 0, size[0] - 1))
