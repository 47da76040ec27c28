"""One camera's tracking, apart from ROS's plumbing: images in, results out, faults survived and told once."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from taptrv2_core import EncodedImage, ImageError, PointError, Taptr, Tracker, Tracks
from taptrv2_core.fast.allocator import is_out_of_memory, release_freed_memory, trim_heap
from taptrv2_core.images import checked_image, is_dark
from taptrv2_core.stamps import Continuity
from taptrv2_ros.conversions import ConversionError, RgbImage, to_rgb
from taptrv2_ros.messages import nanoseconds
from taptrv2_ros.monitor import Monitor
from taptrv2_ros.points import Points

MOST_PROBLEMS = 50  # distinct ones that are logged
_AT_ONCE = 1.0  # seconds between two cuts below which they count as one trouble, of which each is nothing new


class Logger(Protocol):
    """What is used of a ROS logger."""

    def info(self, message: str) -> object: ...
    def warning(self, message: str) -> object: ...
    def error(self, message: str) -> object: ...


@dataclass(frozen=True)
class Received:
    """An image as it arrived."""

    message: Image | CompressedImage
    continuity: Continuity
    arrived: float
    """time.monotonic() of its arrival."""


@dataclass(frozen=True)
class Frame:
    """An image fit for tracking."""

    received: Received
    rgb: RgbImage


@dataclass(frozen=True)
class FrameResult:
    """The points in one image, with the header of that image."""

    tracks: Tracks
    header: Header


@dataclass(frozen=True)
class TrackedFrame:
    """An image with its result, and older images whose results have become final with it."""

    frame: Frame
    result: FrameResult
    older: tuple[FrameResult, ...]
    image_size: tuple[int, int]
    """(height, width) in pixels."""
    reset_count: int


class TrackingSession:
    """A tracker fed with ROS images. Not thread-safe: everything is called from the worker's thread.

    Args:
        topic: the images' full name, for messages that say where to look.

    Attributes:
        on_reset: called with the reason whenever all images, and all points but those of references, were forgotten.
        on_limit: called when memory ran out and `max_points` was lowered.
        to_rgb: converts images; raises ConversionError.
        points: answers requests about points.
    """

    def __init__(self, model: Taptr, max_points: int, takeover_interval: int, topic: str, logger: Logger) -> None:
        self._tracker = Tracker(model, max_points, takeover_interval)
        self.topic = topic
        self.points = Points(self._tracker, lambda: self.topic)
        self._logger = logger
        self.on_reset: Callable[[str], None] = lambda _: None
        self.on_limit: Callable[[], None] = lambda: None
        self.to_rgb: Callable[[Image | CompressedImage], RgbImage] = to_rgb
        self._headers: dict[int, Header] = {}
        self._told: set[str] = set()
        self._epoch: int | None = None
        self._restless = False
        self.monitor = Monitor()
        self.counters = self.monitor.counters

    def close(self) -> None:
        """Give up the network and all that is tracked; nothing is called any more."""
        self._tracker.close()

    @property
    def tracker(self) -> Tracker:
        """For parts that add and remove points themselves."""
        return self._tracker

    @property
    def num_points(self) -> int:
        """How many points are tracked."""
        return self._tracker.num_points

    @property
    def max_points(self) -> int:
        """Most points that can be tracked now. Setting it forgets that memory once ran out at fewer."""
        return self._tracker.max_points

    @max_points.setter
    def max_points(self, value: int) -> None:
        self._tracker.max_points = value

    def prepare(self, received: Received) -> Frame | None:
        """Make an image ready for tracking; starts anew where it does not continue the ones before.

        None when the image cannot be used: that is counted, and each distinct problem is logged once.
        """
        epoch, reason = received.continuity
        if self._epoch is not None and epoch != self._epoch and self._headers:
            self._reset(reason)
        self._epoch = epoch
        try:
            rgb = self.to_rgb(received.message)
            checked_image(rgb)
        except (ConversionError, ImageError) as error:
            self._refuse(getattr(error, "problem", str(error)), f"image on '{self.topic}' refused: {error}")
            return None
        except Exception as error:  # a robot's node outlives whatever goes wrong in one image
            self.lose(error)
            return None
        if is_dark(rgb):
            self.counters.dark += 1
            self._tell_dark(str(getattr(received.message, "encoding", "")))
        size, known = (rgb.shape[0], rgb.shape[1]), self._tracker.image_size
        if known is not None and known != size:
            self._reset(f"image size changed from {known[1]}x{known[0]} to {size[1]}x{size[0]} pixels")
        if self.counters.tracked == 0:
            self._logger.info(f"first image on '{self.topic}': {size[1]}x{size[0]} pixels")
        return Frame(received, rgb)

    def track(self, frame: Frame, encoded: EncodedImage) -> TrackedFrame | None:
        """Track an image that was prepared and encoded; None when that failed, which is counted and logged."""
        header = frame.received.message.header
        try:
            tracks = self._step(encoded, nanoseconds(header.stamp))
        except Exception as error:
            self._fail(error)
            return None
        self.counters.tracked += 1
        self._headers[tracks.frame_index] = header
        older = tuple(FrameResult(t, self._headers[t.frame_index]) for t in tracks.refined if t.final)
        self._forget_headers()
        return TrackedFrame(frame, FrameResult(tracks, header), older, encoded.size, self.counters.resets)

    def lose(self, error: Exception) -> None:
        """An image failed before the tracker took it in, which therefore is as it was. Where memory ran out, it goes on
        with fewer points."""
        self._fault(error)
        if is_out_of_memory(error) and self._tracker.num_points:
            self._shed(error)

    def _fail(self, error: Exception) -> None:
        """After an error nobody foresaw the tracker's state is unknown: start anew instead of tracking nonsense."""
        self._fault(error)
        if self._headers:
            self._reset("tracking failed")
        else:  # it failed in the first image, perhaps again: nothing is lost, so nothing more to tell
            self._tracker.reset()
        if is_out_of_memory(error) and self._tracker.num_points:  # references, which would need as much again
            self._shed(error)

    def _fault(self, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        self._refuse(f"{type(error).__name__}: {error}", f"tracking failed in an image on '{self.topic}': {trace}")

    def _step(self, encoded: EncodedImage, stamp: int) -> Tracks:
        self._take(encoded, stamp)
        while True:
            try:
                return self._tracker.answer()
            except Exception as error:
                if not is_out_of_memory(error) or not self._tracker.num_points:
                    raise
                self._shed(error)

    def _take(self, encoded: EncodedImage, stamp: int) -> None:
        """The tracker takes an image in; points that cannot be followed in a stream of its size are given up."""
        while True:
            try:
                return self._tracker.take(encoded, stamp)
            except PointError as error:
                if not error.ids:
                    raise
                self.points.forget(error.ids)
                why = str(error).partition("; remove")[0]
                self._logger.error(f"'{self.topic}': {len(error.ids)} points are given up: {why}")

    def _shed(self, error: Exception) -> None:
        """Give up half of the points, the node's own first, then the newest; take no more than are left from now on."""
        ids = self.points.ranked()
        kept = len(ids) // 2
        self.points.forget(ids[kept:])
        self._tracker.max_points = max(1, kept)
        self.monitor.last_shortage = time.monotonic()
        release_freed_memory()
        self._logger.error(
            f"out of memory with {len(ids)} points on '{self.topic}': {len(ids) - kept} of them are given up, and "
            f"at most {max(1, kept)} are accepted until max_points is set anew ({error})"
        )
        self.on_limit()

    def _reset(self, reason: str) -> None:
        points = self._tracker.num_points
        self._tracker.reset()
        self.points.start_anew()
        self._headers.clear()
        trim_heap()
        self.counters.resets += 1
        self.monitor.reset_reason = reason
        self._warn_of_reset(reason, points - self._tracker.num_points)
        self.on_reset(reason)

    def _warn_of_reset(self, reason: str, points: int) -> None:
        """Each time, but where one follows another at once: that only once more."""
        now = time.monotonic()
        again, self.monitor.last_reset = now - self.monitor.last_reset < _AT_ONCE, now
        if not again:
            kept = self._tracker.num_points
            self._logger.warning(
                f"'{self.topic}': {reason}: tracking starts anew, {points} points are forgotten (add them again)"
                + (f", {kept} of references are looked for" if kept else "")
            )
        elif not self._restless:
            self._logger.warning(
                f"'{self.topic}': {reason}, again within {_AT_ONCE:g} s: does more than one camera publish on it? Not "
                "said again while that goes on; resets are counted"
            )
        self._restless = again

    def _tell_dark(self, encoding: str) -> None:
        """Once."""
        if self.counters.dark > 1:
            return
        advice = "is the lens covered, or the exposure too short?"
        if "16" in encoding:
            advice = (
                f"{encoding} counts from 0 to 65535; a camera of 10 or 12 bits has to fill these, or publish 8 bits"
            )
        self._logger.warning(f"images on '{self.topic}' are nearly black, so that nothing can be tracked: {advice}")

    def _refuse(self, problem: str, text: str) -> None:
        self.counters.refused += 1
        self.monitor.problem = text.splitlines()[-1]
        if problem not in self._told and len(self._told) < MOST_PROBLEMS:
            self._told.add(problem)
            self._logger.error(f"{text} (said once; images refused are counted)")

    def _forget_headers(self) -> None:
        """Keep the headers of the images the tracker holds, as many as it has stamps."""
        oldest = self._tracker.frame_index - len(self._tracker.held_stamps)
        self._headers.pop(oldest, None)
