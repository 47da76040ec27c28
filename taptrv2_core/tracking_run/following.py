"""A recording's images through the tracker, each given out with its points once nothing will change them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from taptrv2_core.encodings import RgbImage
from taptrv2_core.recordings import Frame
from taptrv2_core.stamps import Continuity
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracking_run.points import PointSource
from taptrv2_core.tracks import Queries, Tracks

_ARRAYS = ("ids", "x", "y", "visibility", "visible", "found")


@dataclass(frozen=True)
class DecodedFrame:
    """An image of a recording, ready to be tracked."""

    number: int
    """In the recording, from 0."""
    source: Frame
    image: RgbImage
    continuity: Continuity = field(default_factory=Continuity)


@dataclass(frozen=True)
class TrackedFrame:
    """An image with the points in it."""

    number: int
    source: Frame
    image: RgbImage
    tracks: Tracks


class Follower:
    """Tracks points from a `PointSource` through the images of a recording.

    Args:
        tracker: a new one.
        points: begun already; their references are given to the tracker.
        streaming: give out what the tracker says of each image at once, as the live node does. Otherwise the refined
            tracks of the published procedure, up to seven images later (`Tracker.needs_answer` says what they cost).
    """

    def __init__(self, tracker: Tracker, points: PointSource, streaming: bool = False) -> None:
        self.tracker = tracker
        self.points = points
        self.streaming = streaming
        self._held: dict[int, tuple[DecodedFrame, Tracks | None]] = {}  # by the tracker's number, oldest first
        points.add_references(tracker)

    def push(self, frame: DecodedFrame) -> list[TrackedFrame]:
        """Track the next image; returns those that are done. Raises ImageError: it cannot be tracked."""
        tracker, stamp = self.tracker, frame.source.stamp
        tracker.take(frame.image, stamp)
        self._held[tracker.frame_index] = frame, None
        first = tracker.commits and not self.streaming  # a window that is to be the last word knows all points
        if first:
            self.points.add_due(tracker, frame.number, stamp)
        tracks = tracker.answer() if self.streaming or self.points.seeds or tracker.needs_answer else None
        if not first:
            self.points.add_due(tracker, frame.number, stamp)
        if tracks is None:
            return []
        self.points.seed(tracker, frame.image, tracks, stamp)
        if not self.streaming:
            for older in tracks.refined:
                self._update(older)
        self._update(_with_new(tracks, tracker.queries()))
        final = [t.frame_index for t in tracks.refined if t.final]
        return self._give_out(tracker.frame_index if self.streaming else max(final, default=-1))

    def finish(self) -> list[TrackedFrame]:
        """After the last image: those still held, refined by a last window."""
        if self._held and not self.tracker.commits:
            for tracks in self.tracker.finish():
                self._update(tracks)
        return self._give_out(self.tracker.frame_index)

    def restart(self) -> list[TrackedFrame]:
        """Forget all images and points but those of references: the next image does not continue these. Gives out the
        images still held."""
        done = self.finish()
        self.tracker.reset()
        return done

    def _update(self, tracks: Tracks) -> None:
        if tracks.frame_index in self._held:
            frame, before = self._held[tracks.frame_index]
            self._held[tracks.frame_index] = frame, tracks if before is None else _merged(before, tracks)

    def _give_out(self, newest: int) -> list[TrackedFrame]:
        """The frames held up to this one."""
        done = []
        for index in [i for i in self._held if i <= newest]:
            frame, tracks = self._held.pop(index)
            assert tracks is not None  # a committing window and the last one speak of all frames that are held
            done.append(TrackedFrame(frame.number, frame.source, frame.image, tracks))
        return done


def _merged(before: Tracks, now: Tracks) -> Tracks:
    """What is known of a frame now, and of points given up since, what was known of them."""
    gone = ~np.isin(before.ids, now.ids)
    if not gone.any():
        return now
    order = np.argsort(np.concatenate((before.ids[gone], now.ids)))
    arrays = {name: np.concatenate((getattr(before, name)[gone], getattr(now, name)))[order] for name in _ARRAYS}
    return replace(now, **arrays)


def _with_new(tracks: Tracks, queries: Queries) -> Tracks:
    """A frame's tracks and the points that were added in it since."""
    return _merged(tracks, replace(tracks, **{name: getattr(queries, name) for name in _ARRAYS}))
