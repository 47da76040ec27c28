"""Where the points to follow come from: references, a file, a grid, corners found automatically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taptrv2_core.encodings import RgbImage
from taptrv2_core.query_files import Query, Schedule, check_queries, grid_queries
from taptrv2_core.reference_files import Reference, check_references
from taptrv2_core.seeding import Seeder, SeedingOptions
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracks import Tracks

SEEDED = "auto"
"""The group of points that were found automatically."""
_ROOM = 1024  # points that come beside those known beforehand


@dataclass(frozen=True)
class Label:
    """What a point was given as."""

    name: str
    group: str


class PointSource:
    """Adds points to a tracker, image by image.

    Args:
        queries: of a file.
        grid: ``grid`` x ``grid`` points in the first image; 0: none.
        seed: points kept alive at corners of the image; 0: none.
        references: pictures whose points are looked for in every image.
    """

    def __init__(
        self, queries: Sequence[Query] = (), grid: int = 0, seed: int = 0, references: Sequence[Reference] = ()
    ) -> None:
        self._queries = list(queries)
        self._references = list(references)
        self._grid = grid
        self._schedule: Schedule | None = None
        self._seeder = Seeder(SeedingOptions(target_points=seed)) if seed else None
        self.sought = sum(len(reference.xy) for reference in references)
        """How many points of references there are; they have the first ids."""
        self.max_points = self.sought + max(_ROOM, len(queries) + grid * grid + 2 * seed)
        self.labels: dict[int, Label] = {}
        """Of every point so far, by its id."""
        self.asked: dict[int, Query] = {}
        """Of every point so far that was a query, by its id."""

    @property
    def seeds(self) -> bool:
        """Whether it needs to see the tracks of every image."""
        return self._seeder is not None

    @property
    def unmet(self) -> list[Query]:
        """Queries whose image has not come."""
        return [] if self._schedule is None else self._schedule.waiting

    def begin(self, image_size: tuple[int, int], frames: int = 0) -> None:
        """The first image's (height, width) and how many images there will be, 0 if unknown.

        Raises QueryError where a query or a reference does not fit the recording.
        """
        check_references(self._references, image_size)
        check_queries(self._queries, image_size, frames)
        self._schedule = Schedule([*self._queries, *(grid_queries(self._grid, image_size) if self._grid else ())])

    def add_references(self, tracker: Tracker) -> None:
        """Give the references to a tracker that has taken no image yet."""
        for reference in self._references:
            ids = tracker.add_reference(reference.image, reference.xy)
            labels = [Label(name, reference.group) for name in reference.names]
            self.labels.update(zip(ids, labels, strict=True))

    def add_due(self, tracker: Tracker, frame: int, stamp: int) -> None:
        """Add the queries of image ``frame`` to the tracker that has just taken it."""
        assert self._schedule is not None
        queries = self._schedule.due(frame, stamp)
        ids = tracker.add_points([(q.x, q.y) for q in queries])
        self.asked.update(zip(ids, queries, strict=True))
        self.labels.update({i: Label(q.name, q.group) for i, q in zip(ids, queries, strict=True)})

    def seed(self, tracker: Tracker, image: RgbImage, tracks: Tracks, stamp: int) -> None:
        """Give up and add corners, after the tracker's answer for the image."""
        if self._seeder is not None:
            added = self._seeder.update(tracker, image, tracks, stamp / 1e9).added
            self.labels.update(dict.fromkeys(added, Label("", SEEDED)))
