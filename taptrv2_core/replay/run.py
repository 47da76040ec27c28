"""One recording through the tracker as the live node sends it through: every image, in order, none dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.errors import ImageError, RecordingError
from taptrv2_core.evaluation.easy_points import EasyPoints
from taptrv2_core.evaluation.palindrome import ForwardBackward, Palindrome
from taptrv2_core.evaluation.tracking import Floats
from taptrv2_core.model import Taptr
from taptrv2_core.query_files import Query
from taptrv2_core.recordings import NANOSECONDS
from taptrv2_core.replay.measures import Judged
from taptrv2_core.replay.snapshots import Snapshots
from taptrv2_core.replay.truth import Truth
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracking_run import Follower, PointSource, TrackedFrame
from taptrv2_core.tracking_run.following import DecodedFrame
from taptrv2_core.tracking_run.writing import OutputError
from taptrv2_core.tracks import Tracks


@dataclass
class Replay:
    """What came of a recording, so far. Lists have an entry for each image that was tracked."""

    tracks: list[Tracks] = field(default_factory=list)
    """The answers, with the points that were added in the image at their own places."""
    numbers: list[int] = field(default_factory=list)
    """Of the images in the recording, from 0: those that could not be used are missing."""
    milliseconds: list[float] = field(default_factory=list)
    """From an image decoded to its tracks."""
    easy: list[Floats] = field(default_factory=list)
    """Rows of ``EasyPoints``, of the points that were asked for in an image."""
    resets: list[str] = field(default_factory=list)
    """Where all points but those of references were forgotten, as the live node does, and why."""
    problem: str = ""
    """Why the recording was not tracked to its end, or no point in it; empty if all is well."""
    interrupted: bool = False
    frame_size: tuple[int, int] = (0, 0)
    """(height, width)."""
    forward_backward: ForwardBackward | None = None
    returned: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Forward-backward errors in pixels."""
    snapshots: Snapshots = field(default_factory=Snapshots)


class Replayer:
    """Sends images through a tracker of its own, and through what judges it.

    Args:
        model: the network.
        points: begun already, and none of them found automatically, so that ids are numbers from 0.
        takeover_interval: as for ``Tracker``.
        stretch: images of a forward-backward check; 0: none is made.
        write: called with each image and its tracks.
    """

    def __init__(
        self,
        model: Taptr,
        points: PointSource,
        takeover_interval: int = 1,
        stretch: int = 24,
        write: Callable[[TrackedFrame], object] = lambda _: None,
    ) -> None:
        self._follower = Follower(Tracker(model, points.max_points, takeover_interval), points, streaming=True)
        self._sought = points.sought
        self._epoch: int | None = None
        self._easy = EasyPoints()
        self._palindrome = Palindrome(model, stretch, takeover_interval) if stretch else None
        self._write = write
        self.replay = Replay()

    def run(
        self, frames: Iterable[DecodedFrame], advance: Callable[[], object], stop: Callable[[], bool] = lambda: False
    ) -> Replay:
        """Track all images, or until ``stop``. ``advance`` is called after each.

        Where the recording breaks off, cannot be tracked or results cannot be written any further, what was tracked
        until then is kept, and ``problem`` says so.
        """
        replay = self.replay
        try:
            for frame in frames:
                if stop():
                    replay.interrupted = True
                    replay.problem = f"interrupted before image {frame.number}"
                    break
                self._begin_anew_if_cut(frame)
                self._track(frame)
                advance()
        except (RecordingError, OutputError) as error:
            replay.problem = str(error)
        except ImageError as error:  # the live node would forget all points and start anew
            replay.problem = f"tracking ends after {len(replay.tracks)} images: {error}"
        if self._palindrome is not None:
            replay.forward_backward = self._palindrome.result()
            replay.returned = np.concatenate(self._palindrome.errors or [np.zeros(0)])
        return replay

    def _begin_anew_if_cut(self, frame: DecodedFrame) -> None:
        """Where an image does not continue those before, all points are forgotten."""
        epoch, reason = frame.continuity
        if self._epoch is not None and epoch != self._epoch:
            points = self._follower.tracker.num_points - self._sought
            kept = f", {self._sought} of references looked for anew" if self._sought else ""
            self.replay.resets.append(f"image {frame.number}: {reason}, {points} points forgotten{kept}")
            self._follower.restart()
            self._easy.forget()
            if self._palindrome is not None:
                self._palindrome.cut()
        self._epoch = epoch

    def _track(self, frame: DecodedFrame) -> None:
        replay = self.replay
        begin = time.perf_counter()
        (tracked,) = self._follower.push(frame)
        replay.milliseconds.append(1000 * (time.perf_counter() - begin))
        self._write(tracked)
        image, tracks = tracked.image, tracked.tracks
        replay.frame_size = (image.shape[0], image.shape[1])
        known = self._sought + (len(replay.easy[-1]) if replay.easy else 0)
        replay.easy.append(self._easy.step(image, tracks.xy[tracks.ids >= known]))
        if self._palindrome is not None:
            self._palindrome.step(image, tracks)
        replay.snapshots.add(len(replay.tracks), image)
        replay.numbers.append(frame.number)
        # What became final of older images is not judged, and would keep every result alive for long.
        replay.tracks.append(replace(tracks, refined=()))


def to_judge(replay: Replay, points: PointSource, queries: Sequence[Query], truth: Truth | None) -> Judged:
    """The tracks of a replay as arrays, with the truth of the same points if there is one.

    Args:
        replay: with at least one image tracked.
        points: as given to ``Replayer``.
        queries: as given to ``points``.
        truth: of the points of these queries, in their order, in all images of the recording.
    """
    frames, count = len(replay.tracks), points.sought + len(points.asked)
    xy = np.zeros((frames, count, 2), np.float32)
    easy = np.full((frames, count, 2), np.nan, np.float32)
    visible, there = np.zeros((2, frames, count), np.bool_)
    for t, tracks in enumerate(replay.tracks):
        # Ids are numbers from 0 in the order in which points were added, references first; resets alone remove any.
        xy[t, tracks.ids], visible[t, tracks.ids], there[t, tracks.ids] = tracks.found_xy, tracks.visible, True
        easy[t, points.sought : points.sought + len(replay.easy[t])] = replay.easy[t]
    start, end = there.argmax(0), frames - there[::-1].argmax(0)
    xy = xy[np.clip(np.arange(frames)[:, None], start, end - 1), np.arange(count)]
    stamps = np.array([tracks.stamp for tracks in replay.tracks], dtype=np.int64)
    seconds = np.cumsum(np.maximum(np.diff(stamps, prepend=stamps[:1]), 0)) / NANOSECONDS
    ids = np.arange(count, dtype=np.int64)
    asked = _same_points(replay.numbers, points, queries, truth) if truth is not None else None
    return Judged(ids, start, end, xy, visible, easy, seconds, replay.frame_size, asked, ids < points.sought)


def _same_points(numbers: list[int], points: PointSource, queries: Sequence[Query], truth: Truth) -> Truth:
    """The truth of all points, by id, in the images that were tracked; none is annotated of those of references."""
    place = {id(query): i for i, query in enumerate(queries)}
    columns = np.array([place[id(query)] for query in points.asked.values()], dtype=np.int64)
    whole = truth.first(max(numbers) + 1)
    rows = np.array(numbers)[:, None], columns[None]
    before = [(0, 0), (points.sought, 0)]
    return Truth(
        np.pad(truth.ids[columns], before[1:], constant_values=-1),
        np.pad(whole.xy[rows], [*before, (0, 0)]),
        np.pad(whole.visible[rows], before),
        np.pad(whole.annotated[rows], before),
    )
