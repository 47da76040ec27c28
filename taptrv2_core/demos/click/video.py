"""A recording on the page: played, stopped, sought through, tracked."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from taptrv2_core.demos.click.stage import ClickError, Scene, Showing, ShownPoint, html_colour, jpeg
from taptrv2_core.demos.source import Images
from taptrv2_core.drawing import point_colours
from taptrv2_core.encodings import RgbImage
from taptrv2_core.errors import ImageError, PointError, RecordingError
from taptrv2_core.model import Taptr
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracks import Tracks

_MOST_POINTS = 1000
_LEAST_PAUSE = 0.002  # seconds between images in which clicks get their turn


@dataclass(frozen=True)
class Pick:
    """A point as it was clicked: pixels x, y in an image, counted from 0."""

    frame: int
    x: float
    y: float


class VideoStage:
    """Plays a recording and tracks the points clicked in it.

    A point belongs to the image it was clicked in: after a jump it is tracked again when that image
    comes. Without a model points are only collected. A context manager that ends its thread and closes the recording.
    """

    def __init__(self, open_source: Callable[[], Images], model: Taptr | None) -> None:
        """``open_source`` opens the recording at its beginning, as often as somebody jumps back."""
        self.showing = Showing()
        self.picks: dict[int, Pick] = {}
        self._open, self._source = open_source, open_source()
        self._tracker = Tracker(model, _MOST_POINTS) if model else None
        self._tracked: dict[int, int] = {}  # the tracker's id -> ours
        self._tracks: Tracks | None = None
        self._image: RgbImage | None = None
        self._index, self._next_id = -1, 0
        self._playing, self._ended = False, False
        self._condition = threading.Condition()  # guards everything
        self._thread = threading.Thread(target=self._run, name="click video", daemon=True)

    def __enter__(self) -> VideoStage:
        with self._condition:
            self._advance(self._source.numbered)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._ended = True
            self._condition.notify_all()
        self._thread.join()
        self._source.files.close()

    def about(self) -> dict[str, Any]:
        kind = "video" if self._tracker else "pick"
        return {"name": self._source.name, "kind": kind, "images": self._source.count}

    def add(self, image: str, x: float, y: float) -> None:
        with self._condition:
            frame = int(image)
            if len(self.picks) >= _MOST_POINTS:
                raise ClickError(f"there are {_MOST_POINTS} points, more are not followed; remove some")
            point = self._next_id
            self.picks[point] = Pick(frame, x, y)
            try:
                if self._tracker is not None:
                    self._tracked[self._tracker.add_points([(x, y)], stamp=frame)[0]] = point
            except PointError as error:
                del self.picks[point]
                raise ClickError(str(error)) from error
            self._next_id += 1
            self._show()

    def remove(self, point: int) -> None:
        with self._condition:
            if point not in self.picks:
                raise ClickError(f"there is no point {point}")
            del self.picks[point]
            gone = [theirs for theirs, ours in self._tracked.items() if ours == point]
            if self._tracker is not None and gone:
                self._tracker.remove_points(gone)
                del self._tracked[gone[0]]
            self._show()

    def clear(self) -> None:
        with self._condition:
            self.picks.clear()
            self._tracked.clear()
            if self._tracker is not None:
                self._tracker.clear()
            self._show()

    def play(self, playing: bool) -> None:
        with self._condition:
            self._playing = playing
            self._condition.notify_all()
            self._show()

    def seek(self, index: int) -> None:
        with self._condition:
            last = max(0, self._source.count - 1) if self._source.count else index
            index = min(max(0, index), last)
            if index <= self._index:
                self._source.files.close()
                self._source = self._open()
            if self._tracker is not None:
                self._tracker.reset()
            self._tracked.clear()
            self._advance(itertools.dropwhile(lambda frame: frame[0] < index, self._source.numbered))

    def _run(self) -> None:
        with self._condition:
            while not self._ended:
                if not self._playing:
                    self._condition.wait()
                    continue
                began = time.monotonic()
                self._advance(self._source.numbered)
                self._condition.wait(max(_LEAST_PAUSE, 1 / self._source.rate - (time.monotonic() - began)))

    def _advance(self, frames: Iterator[tuple[int, RgbImage]]) -> None:
        """Show the next image; at the end, or where the recording is damaged, stop."""
        try:
            following = next(frames, None)
            if following is not None:
                self._index, self._image = following
                self._track(self._image)
        except (RecordingError, ImageError, OSError) as error:
            self._playing = False
            self.showing.fail(str(error))
            return
        self._playing = self._playing and following is not None
        self._show()

    def _track(self, image: RgbImage) -> None:
        if self._tracker is None:
            return
        self._tracks = self._tracker.step(image, stamp=self._index)
        due = [point for point, pick in self.picks.items() if pick.frame == self._index]
        if due:
            ids = self._tracker.add_points([(self.picks[p].x, self.picks[p].y) for p in due])
            self._tracked.update(zip(ids, due, strict=True))

    def _show(self) -> None:
        if self._image is None:
            return
        height, width = self._image.shape[:2]
        points = tuple(self._shown(point, pick) for point, pick in self.picks.items())
        self.showing.show(Scene(str(self._index), self._index, jpeg(self._image), width, height, points, self._playing))

    def _shown(self, point: int, pick: Pick) -> ShownPoint:
        colour = html_colour(point_colours([point])[0])
        if pick.frame == self._index:
            return ShownPoint(point, colour, "visible", pick.x, pick.y)
        if self._tracks is not None:
            for row, theirs in enumerate(self._tracks.ids.tolist()):
                if self._tracked.get(theirs) == point:
                    state = "visible" if self._tracks.visible[row] else "hidden"
                    return ShownPoint(point, colour, state, float(self._tracks.x[row]), float(self._tracks.y[row]))
        return ShownPoint(point, colour, f"clicked in image {pick.frame}")
