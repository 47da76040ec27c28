"""Tracks as a table of one row a point and image: CSV or Parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.extras import optional
from taptrv2_core.tracking_run.following import TrackedFrame
from taptrv2_core.tracking_run.outputs.output import Labels
from taptrv2_core.tracking_run.points import Label

COLUMNS = ("frame", "stamp_ns", "id", "name", "group", "x", "y", "visibility", "visible", "found")
_ROWS_A_GROUP = 1 << 16
_NUMBERS = {
    "frame": "i4", "stamp_ns": "i8", "id": "i8", "x": "f4", "y": "f4", "visibility": "f4", "visible": "?",
    "found": "?",
}  # fmt: skip
_ROW = np.dtype(list(_NUMBERS.items()))
_BLANK = Label("", "")


class CsvTable:
    """``tracks.csv``."""

    label = "Tracks"

    def __init__(self, path: Path, labels: Labels) -> None:
        self.path = path
        self._labels = labels
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)

    def write(self, frame: TrackedFrame) -> None:
        """See `Output`."""
        tracks, stamp = frame.tracks, frame.source.stamp
        columns = (tracks.ids, tracks.x, tracks.y, tracks.visibility, tracks.visible, tracks.found)
        for point, x, y, visibility, visible, found in zip(*(c.tolist() for c in columns), strict=True):
            label = self._labels.get(point, _BLANK)
            self._writer.writerow(
                (frame.number, stamp, point, label.name, label.group, f"{x:.3f}", f"{y:.3f}", f"{visibility:.4f}",
                 int(visible), int(found))
            )  # fmt: skip

    def close(self) -> None:
        """See `Output`."""
        self._file.close()

    def bytes_to_close(self) -> int:
        """See `Output`."""
        return 0


class ParquetTable:
    """``tracks.parquet``, in groups of rows."""

    label = "Tracks"

    def __init__(self, path: Path, labels: Labels) -> None:
        self.path = path
        self._labels = labels
        self._arrow: Any = optional("pyarrow", "pyarrow", "writing Parquet")
        kinds = {
            "frame": self._arrow.int32(), "stamp_ns": self._arrow.int64(), "id": self._arrow.int64(),
            "name": self._arrow.string(), "group": self._arrow.string(), "x": self._arrow.float32(),
            "y": self._arrow.float32(), "visibility": self._arrow.float32(), "visible": self._arrow.bool_(),
            "found": self._arrow.bool_(),
        }  # fmt: skip
        self._schema = self._arrow.schema([(name, kinds[name]) for name in COLUMNS])
        parquet = optional("pyarrow.parquet", "pyarrow", "writing Parquet")
        self._writer = parquet.ParquetWriter(str(path), self._schema)
        # One array for all: thousands of small ones between the images' large ones would leave holes in the memory.
        self._rows = np.zeros(_ROWS_A_GROUP, _ROW)
        self._count = 0

    def write(self, frame: TrackedFrame) -> None:
        """See `Output`."""
        tracks = frame.tracks
        rows: NDArray[np.void] = np.zeros(len(tracks.ids), _ROW)
        rows["frame"], rows["stamp_ns"], rows["id"] = frame.number, frame.source.stamp, tracks.ids
        for name in ("x", "y", "visibility", "visible", "found"):
            rows[name] = getattr(tracks, name)
        while len(rows):
            fitting = rows[: _ROWS_A_GROUP - self._count]
            self._rows[self._count : self._count + len(fitting)] = fitting
            self._count += len(fitting)
            rows = rows[len(fitting) :]
            if self._count == _ROWS_A_GROUP:
                self._flush()

    def close(self) -> None:
        """See `Output`."""
        try:
            self._flush()
        finally:
            self._writer.close()

    def bytes_to_close(self) -> int:
        """See `Output`."""
        return 64 * self._count

    def _flush(self) -> None:
        rows, self._count = self._rows[: self._count], 0
        if not len(rows):
            return
        labels = [self._labels.get(point, _BLANK) for point in rows["id"].tolist()]
        columns: dict[str, Any] = {name: np.ascontiguousarray(rows[name]) for name in _NUMBERS}
        columns |= {"name": [label.name for label in labels], "group": [label.group for label in labels]}
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))
