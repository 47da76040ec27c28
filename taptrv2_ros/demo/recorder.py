"""What was received, frame by frame, and as tables."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.given import NEW_VISIBILITY
from taptrv2_ros.messages import nanoseconds
from taptrv2_ros.msg import PointTracks


@dataclass(frozen=True)
class Points:
    """Points in one image; entry i of every array belongs to ``ids[i]``."""

    ids: NDArray[np.int64]
    xy: NDArray[np.float32]
    """(N, 2) pixels x, y."""
    visibility: NDArray[np.float32]
    visible: NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """All points over all images, NaN (visible: False) where a point was not tracked.

    Shapes: ids (N,), xy (T, N, 2) pixels, visibility (T, N) in [0, 1], visible (T, N), seconds (T,) from the first
    image.
    """

    ids: NDArray[np.int64]
    xy: NDArray[np.float32]
    visibility: NDArray[np.float32]
    visible: NDArray[np.bool_]
    seconds: NDArray[np.float64]

    @property
    def first_frame(self) -> NDArray[np.int64]:
        """(N,) image each point was added at."""
        return np.isfinite(self.xy[:, :, 0]).argmax(axis=0)


def from_message(message: PointTracks) -> Points:
    """Arrays of a message."""
    return Points(
        np.asarray(message.ids, dtype=np.int64),
        np.stack((message.x, message.y), axis=-1).astype(np.float32),
        np.asarray(message.visibility, dtype=np.float32),
        np.asarray(message.visible, dtype=bool),
    )


def new_points(ids: list[int], xy: NDArray[np.float32]) -> Points:
    """Points in the image they were just picked in."""
    visibility = np.full(len(ids), NEW_VISIBILITY, np.float32)
    return Points(np.array(ids, dtype=np.int64), xy, visibility, visibility > 0.5)


class Recorder:
    """Keeps the tracks of every image, and the refined ones by the stamp of their image."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.frames: list[Points] = []
        self._refined: dict[int, Points] = {}

    def add(self, stamp: int, points: Points) -> None:
        """The points of the next image; ``stamp`` in nanoseconds."""
        self.stamps.append(stamp)
        self.frames.append(points)

    def add_to_newest(self, points: Points) -> None:
        """Points that were just added in the newest image."""
        newest = self.frames[-1]
        self.frames[-1] = Points(
            np.concatenate((newest.ids, points.ids)),
            np.concatenate((newest.xy, points.xy)),
            np.concatenate((newest.visibility, points.visibility)),
            np.concatenate((newest.visible, points.visible)),
        )

    def refine(self, messages: list[PointTracks]) -> None:
        """Refined tracks of older images."""
        for message in messages:
            self._refined[nanoseconds(message.header.stamp)] = from_message(message)

    def table(self) -> Table:
        """Everything so far."""
        ids = np.unique(np.concatenate([frame.ids for frame in self.frames]))
        shape = (len(self.frames), len(ids))
        xy = np.full((*shape, 2), np.nan, np.float32)
        visibility = np.full(shape, np.nan, np.float32)
        visible = np.zeros(shape, bool)
        for row, frame in enumerate(self.frames):
            columns = np.searchsorted(ids, frame.ids)
            xy[row, columns], visibility[row, columns] = frame.xy, frame.visibility
            visible[row, columns] = frame.visible
        seconds = (np.array(self.stamps, dtype=np.int64) - self.stamps[0]) / 1e9
        return Table(ids, xy, visibility, visible, seconds)

    def write_csv(self, path: Path) -> None:
        """One line a point and image: the live answer, and the refined one where the node gave it."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            names = ["x", "y", "visibility", "visible"]
            writer.writerow(["frame", "stamp_ns", "id", *names, *(f"refined_{name}" for name in names)])
            for index, (stamp, points) in enumerate(zip(self.stamps, self.frames, strict=True)):
                refined = _rows(self._refined[stamp]) if stamp in self._refined else {}
                for point, row in _rows(points).items():
                    writer.writerow([index, stamp, point, *row, *refined.get(point, [""] * 4)])


def _rows(points: Points) -> dict[int, list[str]]:
    columns = zip(points.ids.tolist(), points.xy.tolist(), points.visibility.tolist(), points.visible, strict=True)
    return {i: [f"{xy[0]:.3f}", f"{xy[1]:.3f}", f"{v:.4f}", str(int(seen))] for i, xy, v, seen in columns}
