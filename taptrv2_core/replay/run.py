"""One recording through the tracker as the live node sends it through: every image, in order, none dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.encodings import ConversionError
from taptrv2_core.errors import ImageError, PointError, RecordingError
from taptrv2_core.evaluation.easy_points import EasyPoints
from taptrv2_core.evaluation.palindrome import ForwardBackward, Palindrome
from taptrv2_core.evaluation.tracking import Floats, Video
from taptrv2_core.model import Taptr
from taptrv2_core.query_files import Query, Schedule, check_queries
from taptrv2_core.recordings import NANOSECONDS, Frame
from taptrv2_core.replay.measures import Judged
from taptrv2_core.replay.snapshots import Snapshots
from taptrv2_core.replay.truth import Truth
from taptrv2_core.stamps import StampWatch
from taptrv2_core.tracker import NEW_VISIBILITY, Tracker, Tracks

MAX_GAP = 1.0  # seconds; the node's default
Progress = Callable[[], object]
"""Called after each image."""


@dataclass
class Replay:
    """What came of a recording, so far.

    Lists have an entry for each image that was tracked.
    """

    tracks: list[Tracks] = field(default_factory=list)
    """The answers, with the points that were added in the image at their own places."""
    numbers: list[int] = field(default_factory=list)
    """Of the images in the recording, from 0: those that could not be used are missing."""
    milliseconds: list[float] = field(default_factory=list)
    """From an image decoded to its tracks."""
    queries: list[Query] = field(default_factory=list)
    """By id."""
    not_asked: list[Query] = field(default_factory=list)
    """Queries whose image never came, or could not be used."""
    refused: list[str] = field(default_factory=list)
    """Of each image that could not be used, why."""
    cuts: list[str] = field(default_factory=list)
    """Where the live node would have forgotten all points, and why."""
    problem: str = ""
    """Why the recording was not tracked to its end; empty if it was."""
    interrupted: bool = False
    frame_size: tuple[int, int] = (0, 0)
    """(height, width)."""
    easy: list[Floats] = field(default_factory=list)
    forward_backward: ForwardBackward | None = None
    returned: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Forward-backward errors in pixels."""
    snapshots: Snapshots = field(default_factory=Snapshots)

    @property
    def images(self) -> int:
        """Images read from the recording."""
        return len(self.tracks) + len(self.refused)


class Replayer:
    """Sends images through a tracker of its own, and through what judges it.

    Args:
        model: the network.
        queries: which points, in which images.
        takeover_interval: as for ``Tracker``.
        stretch: images of a forward-backward check; 0: none is made.
    """

    def __init__(self, model: Taptr, queries: Sequence[Query], takeover_interval: int = 1, stretch: int = 24) -> None:
        self._queries = queries
        self._tracker = Tracker(model, max(len(queries), 1), takeover_interval)
        self._schedule = Schedule(queries)
        self._watch = StampWatch(MAX_GAP)
        self._easy = EasyPoints()
        self._palindrome = Palindrome(model, stretch, takeover_interval) if stretch else None
        self.replay = Replay()

    def run(self, frames: Iterable[Frame], progress: Progress) -> Replay:
        """Track all images. A recording that breaks off leaves what was tracked until then, and says so in ``problem``.

        Raises:
            QueryError, PointError: a query cannot be granted.
        """
        try:
            for number, frame in enumerate(frames):
                if not self._take(number, frame):
                    break
                progress()
        except RecordingError as error:
            self.replay.problem = str(error)
        except KeyboardInterrupt:
            self.replay.interrupted = True
            self.replay.problem = f"interrupted after {self.replay.images} images"
        return self._finish()

    def _take(self, number: int, frame: Frame) -> bool:
        """One image; False if tracking cannot go on."""
        replay = self.replay
        due = self._schedule.due(number, frame.stamp)
        place = self._watch.receive(frame.stamp)
        if place is None:
            replay.refused.append(f"image {number}: it has the stamp of the one before")
            replay.not_asked += due
            return True
        if place.epoch > len(replay.cuts):
            replay.cuts.append(f"image {number}: {place.reason}")
        try:
            image = frame.rgb()
            if not replay.tracks:
                check_queries(self._queries, (image.shape[0], image.shape[1]))
            begin = time.perf_counter()
            tracks = self._tracker.step(image, frame.stamp)
            replay.milliseconds.append(1000 * (time.perf_counter() - begin))
        except ConversionError as error:
            replay.refused.append(f"image {number}: {error}")
            replay.not_asked += due
            return True
        except ImageError as error:  # the live node would forget all points and start anew
            replay.problem = f"tracking ends before image {number}: {error}"
            replay.not_asked += due
            return False
        self._judge(number, image, self._with_new(tracks, due))
        return True

    def _with_new(self, tracks: Tracks, due: Sequence[Query]) -> Tracks:
        """Add the queries of this image, and their points to its tracks."""
        if not due:
            return tracks
        xy = np.array([(q.x, q.y) for q in due], dtype=np.float32)
        try:
            ids = self._tracker.add_points(xy)
        except PointError as error:
            raise PointError(f"{due[0].source} and those beside it: {error}") from error
        self.replay.queries += due
        seen = np.full(len(due), NEW_VISIBILITY, np.float32)
        return replace(
            tracks,
            ids=np.concatenate((tracks.ids, np.array(ids, np.int64))),
            x=np.concatenate((tracks.x, xy[:, 0])),
            y=np.concatenate((tracks.y, xy[:, 1])),
            visibility=np.concatenate((tracks.visibility, seen)),
            visible=np.concatenate((tracks.visible, np.ones(len(due), np.bool_))),
        )

    def _judge(self, number: int, image: Video, tracks: Tracks) -> None:
        replay = self.replay
        replay.frame_size = (image.shape[0], image.shape[1])
        known = len(replay.easy[-1]) if replay.easy else 0
        replay.easy.append(self._easy.step(image, tracks.xy[known:]))
        if self._palindrome is not None:
            self._palindrome.step(image, tracks)
        replay.snapshots.add(len(replay.tracks), image)
        replay.numbers.append(number)
        # What became final of older images is not judged and would keep every result alive for long.
        replay.tracks.append(replace(tracks, refined=()))

    def _finish(self) -> Replay:
        replay = self.replay
        replay.not_asked += self._schedule.waiting
        if self._palindrome is not None:
            replay.forward_backward = self._palindrome.result()
            replay.returned = np.concatenate(self._palindrome.errors or [np.zeros(0)])
        return replay


def to_judge(replay: Replay, queries: Sequence[Query], truth: Truth | None) -> Judged:
    """The tracks of a replay as arrays, with the truth of the same points if there is one.

    Args:
        replay: with at least one image tracked.
        queries: as given to ``Replayer``.
        truth: of the points of these queries, in their order, in all images of the recording.
    """
    frames, points = len(replay.tracks), len(replay.queries)
    xy = np.zeros((frames, points, 2), np.float32)
    easy = np.full((frames, points, 2), np.nan, np.float32)
    visible = np.zeros((frames, points), np.bool_)
    start = np.zeros(points, np.int64)
    for t in reversed(range(frames)):
        tracks, count = replay.tracks[t], len(replay.tracks[t].ids)
        # Ids are numbers from 0 in the order of the queries, and no point is ever removed.
        xy[t, :count], visible[t, :count], easy[t, :count] = tracks.xy, tracks.visible, replay.easy[t]
        start[:count] = t
    before = np.arange(frames)[:, None] < start[None]
    np.copyto(xy, xy[start, np.arange(points)], where=before[..., None])
    stamps = np.array([tracks.stamp for tracks in replay.tracks], dtype=np.int64)
    seconds = (stamps - stamps[0]) / NANOSECONDS
    ids = np.arange(points, dtype=np.int64)
    return Judged(ids, start, xy, visible, easy, seconds, replay.frame_size, _same_points(replay, queries, truth))


def _same_points(replay: Replay, queries: Sequence[Query], truth: Truth | None) -> Truth | None:
    """The truth of the points that were asked for, by id, in the images that were tracked."""
    if truth is None:
        return None
    place = {id(query): i for i, query in enumerate(queries)}
    columns = np.array([place[id(query)] for query in replay.queries], dtype=np.int64)
    whole = truth.first(max(replay.numbers) + 1)
    rows = np.array(replay.numbers)[:, None], columns[None]
    return Truth(truth.ids[columns], whole.xy[rows], whole.visible[rows], whole.annotated[rows])
