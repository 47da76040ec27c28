"""One camera's tracking, apart from ROS's plumbing: images in, results out, faults survived and told once."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from taptrv2_core import ImageError, PointError, Queries, Taptr, Tracker, Tracks
from taptrv2_core.images import checked_image
from taptrv2_ros.conversions import ConversionError, RgbImage, to_rgb
from taptrv2_ros.messages import nanoseconds

MOST_PROBLEMS = 50  # distinct ones that are logged


class Logger(Protocol):
    """What is used of a ROS logger."""

    def info(self, message: str) -> object: ...
    def warning(self, message: str) -> object: ...
    def error(self, message: str) -> object: ...


@dataclass
class Counters:
    """What happened to the images since the start."""

    tracked: int = 0
    refused: int = 0
    """Images that could not be converted or tracked."""
    resets: int = 0


@dataclass(frozen=True)
class FrameResult:
    """The points in one image, with the header of that image."""

    tracks: Tracks
    header: Header


class TrackingSession:
    """A tracker fed with ROS images. Not thread-safe: everything is called from the worker's thread."""

    def __init__(self, model: Taptr, max_points: int, takeover_interval: int, topic: str, logger: Logger) -> None:
        """``topic`` is the images' full name, for messages that say where to look."""
        self._tracker = Tracker(model, max_points, takeover_interval)
        self._topic = topic
        self._logger = logger
        self._headers: dict[int, Header] = {}
        self._told: set[str] = set()
        self.counters = Counters()

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images tracked; (0, 0) before the first."""
        return self._tracker.image_size or (0, 0)

    def track(self, message: Image | CompressedImage) -> list[FrameResult]:
        """Track one image. The image's own result comes first, then older images that have become final.

        Empty when the image cannot be used: that is counted, and each distinct problem is logged once.
        """
        try:
            tracks = self._step(to_rgb(message), nanoseconds(message.header.stamp))
        except (ConversionError, ImageError) as error:
            self._refuse(getattr(error, "problem", str(error)), f"image on '{self._topic}' refused: {error}")
            return []
        except Exception as error:  # a robot's node outlives whatever goes wrong in one image
            self._recover(error, traceback.format_exc())
            return []
        self.counters.tracked += 1
        self._headers[tracks.frame_index] = message.header
        older = [FrameResult(t, self._headers[t.frame_index]) for t in tracks.refined if t.final]
        self._forget_headers()
        return [FrameResult(tracks, message.header), *older]

    def add(self, x: Sequence[float], y: Sequence[float], stamp: Time) -> list[int]:
        """Add points (pixels) at the image of that stamp, 0 meaning the newest; returns their ids.

        Raises PointError with a message for the client; then none is added.
        """
        if len(x) != len(y):
            raise PointError(f"{len(x)} values of x but {len(y)} of y; each point needs both")
        if not self._headers:
            raise PointError(
                f"no image has been tracked yet on '{self._topic}', so there is nothing to pick points in: check that "
                f"it is published (ros2 topic hz {self._topic}) and that image_topic and image_transport are right"
            )
        picked = nanoseconds(stamp)
        return self._tracker.add_points(np.stack((x, y), axis=-1), picked if picked else None)

    def remove(self, ids: Sequence[int]) -> None:
        """Remove points. Raises PointError naming the ids that are unknown; then none is removed."""
        self._tracker.remove_points(ids)

    def clear(self) -> int:
        """Remove all points; returns how many there were."""
        return self._tracker.clear()

    def list(self) -> tuple[Queries, Time]:
        """What is tracked, and the stamp of the newest image (0 before the first)."""
        newest = self._headers.get(self._tracker.frame_index)
        return self._tracker.queries(), newest.stamp if newest else Time()

    def _step(self, image: RgbImage, stamp: int) -> Tracks:
        checked_image(image)
        size, known = (image.shape[0], image.shape[1]), self._tracker.image_size
        if known is not None and known != size:
            self._reset(f"image size changed from {known[1]}x{known[0]} to {size[1]}x{size[0]} pixels")
        if self.counters.tracked == 0:
            self._logger.info(f"first image on '{self._topic}': {size[1]}x{size[0]} pixels")
        return self._tracker.step(image, stamp)

    def _reset(self, reason: str) -> None:
        points = self._tracker.num_points
        self._tracker.reset()
        self._headers.clear()
        self.counters.resets += 1
        self._logger.warning(f"{reason}: tracking starts anew, {points} points are forgotten (add them again)")

    def _recover(self, error: Exception, trace: str) -> None:
        """After an error nobody foresaw the tracker's state is unknown: start anew instead of tracking nonsense."""
        self._refuse(f"{type(error).__name__}: {error}", f"tracking failed in an image on '{self._topic}': {trace}")
        if self._headers:
            self._reset("tracking failed")
        else:  # it failed in the first image, perhaps again: nothing is lost, so nothing more to tell
            self._tracker.reset()

    def _refuse(self, problem: str, text: str) -> None:
        self.counters.refused += 1
        if problem not in self._told and len(self._told) < MOST_PROBLEMS:
            self._told.add(problem)
            self._logger.error(f"{text} (said once; images refused are counted)")

    def _forget_headers(self) -> None:
        """Keep the headers of the images the tracker holds, as many as it has stamps."""
        oldest = self._tracker.frame_index - len(self._tracker.held_stamps)
        self._headers.pop(oldest, None)
