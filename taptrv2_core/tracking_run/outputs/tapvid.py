"""Tracks as arrays in the layout of TAP-Vid: points (N, T, 2) and occluded (N, T)."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.tracking_run.following import TrackedFrame
from taptrv2_core.tracking_run.outputs.output import Labels
from taptrv2_core.tracking_run.points import Label

_RECORD = np.dtype(
    [("frame", "<i4"), ("row", "<i4"), ("x", "<f4"), ("y", "<f4"), ("visibility", "<f4"), ("visible", "?")]
)
_BLOCK_BYTES = 1 << 26  # of the arrays made at a time
_CHUNK = 1 << 20  # records read at a time
_BYTES_A_PAIR = 8 + 1 + 4  # of a point in an image: points, occluded, visibility


class TapVidArrays:
    """``tracks.npz``. Frames come one after another, the arrays go by point: they are turned round at the end.

    Meanwhile they lie in an unnamed file beside the result, since memory must not grow with the recording.
    """

    label = "Arrays"

    def __init__(self, path: Path, labels: Labels) -> None:
        self.path = path
        self._labels = labels
        self._records: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  # closed by close()
        self._rows: dict[int, int] = {}  # by id
        self._queries: list[tuple[int, float, float, bool]] = []  # frame, y, x of each row, and whether it was found
        self._stamps: list[tuple[int, int]] = []  # number, stamp of each frame
        self._size = (0, 0)

    def write(self, frame: TrackedFrame) -> None:
        """See `Output`."""
        tracks = frame.tracks
        self._size = (frame.image.shape[0], frame.image.shape[1])
        self._stamps.append((frame.number, frame.source.stamp))
        columns = (c.tolist() for c in (tracks.ids, tracks.x, tracks.y, tracks.found))
        for point, x, y, found in zip(*columns, strict=True):
            row = self._rows.setdefault(point, len(self._rows))
            if row == len(self._queries):
                self._queries.append((frame.number, y, x, found))
            elif found and not self._queries[row][-1]:
                self._queries[row] = frame.number, y, x, True
        records = np.zeros(len(tracks.ids), _RECORD)
        records["frame"] = frame.number
        records["row"] = [self._rows[point] for point in tracks.ids.tolist()]
        for name in ("x", "y", "visibility", "visible"):
            records[name] = getattr(tracks, name)
        self._records.write(records.tobytes())

    def close(self) -> None:
        """See `Output`."""
        with self._records, zipfile.ZipFile(self.path, "w", zipfile.ZIP_STORED) as archive:
            self._records.flush()
            for name, array in self._small().items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
            for name, kind, last in (("points", "<f4", (2,)), ("occluded", "|b1", ()), ("visibility", "<f4", ())):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    shape = (len(self._rows), self._frames, *last)
                    header = {"descr": kind, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    for block in self._blocks(name):
                        file.write(np.ascontiguousarray(block, dtype=kind).tobytes())

    def bytes_to_close(self) -> int:
        """See `Output`."""
        return _BYTES_A_PAIR * len(self._rows) * self._frames + 1024 * (1 + len(self._rows))

    @property
    def _frames(self) -> int:
        return self._stamps[-1][0] + 1 if self._stamps else 0

    def _small(self) -> dict[str, NDArray[Any]]:
        """What does not grow with points times frames."""
        stamps = np.zeros(self._frames, np.int64)
        for number, stamp in self._stamps:
            stamps[number] = stamp
        labels = [self._labels.get(point, Label("", "")) for point in self._rows]
        return {
            "query_points": np.array(self._queries, np.float32).reshape(-1, 4)[:, :3],
            "ids": np.array(list(self._rows), np.int64),
            "name": np.array([label.name for label in labels], np.str_),
            "group": np.array([label.group for label in labels], np.str_),
            "stamps": stamps,
            "image_size": np.array(self._size, np.int64),
        }

    def _blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """An array, some points at a time; a point is occluded, and at its query, wherever it was not tracked."""
        most = max(1, _BLOCK_BYTES // (8 * max(1, self._frames)))
        scale = np.array([max(1, side - 1) for side in reversed(self._size)], np.float32)
        for first in range(0, len(self._rows), most):
            queries = np.array(self._queries[first : first + most], np.float32)
            shape = (len(queries), self._frames)
            if name == "points":
                block: NDArray[Any] = np.repeat((queries[:, None, 2:0:-1] / scale), self._frames, axis=1)
            else:
                block = np.full(shape, name == "occluded", bool) if name == "occluded" else np.zeros(shape, np.float32)
            for records in self._chunks():
                here = records[(records["row"] >= first) & (records["row"] < first + len(queries))]
                place = here["row"] - first, here["frame"]
                if name == "points":
                    block[place] = np.stack((here["x"], here["y"]), axis=-1) / scale
                else:
                    block[place] = ~here["visible"] if name == "occluded" else here["visibility"]
            yield block

    def _chunks(self) -> Iterator[NDArray[Any]]:
        self._records.seek(0)
        while data := self._records.read(_CHUNK * _RECORD.itemsize):
            yield np.frombuffer(data, _RECORD)
