"""Which points to follow in a recording, from a YAML, CSV or NPZ file, and when each is due.

A point has x and y in pixels, the image they were picked in (``frame``, its number from 0, or ``stamp``), and may have
a ``name`` and a ``group``. Without frame or stamp it belongs to the first image.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from taptrv2_core.errors import QueryError
from taptrv2_core.point_files import as_number, finite, given_values, parsed_rows, yaml_content

_COLUMNS = ("frame", "stamp", "x", "y", "name", "group")
_STAMP_TOLERANCE = 1000  # nanoseconds: what is left of one that went through a float of seconds
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Query:
    """A point to follow from one image on."""

    x: float
    """Pixels; the centre of the top-left pixel is (0, 0)."""
    y: float
    frame: int | None = 0
    """Number of the image, from 0; None where ``stamp`` says which."""
    stamp: int | None = None
    """Nanoseconds of the image's header."""
    name: str = ""
    group: str = ""
    source: str = "query"
    """Where it was given, for messages."""


class Schedule:
    """Queries handed out image by image."""

    def __init__(self, queries: Iterable[Query]) -> None:
        self._by_frame: dict[int, list[Query]] = {}
        self._by_stamp: list[Query] = []
        for query in queries:
            if query.frame is not None:
                self._by_frame.setdefault(query.frame, []).append(query)
            else:
                self._by_stamp.append(query)

    def due(self, frame: int, stamp: int) -> list[Query]:
        """Those of this image; they are not handed out again."""
        found = self._by_frame.pop(frame, [])
        if self._by_stamp:
            now = [q for q in self._by_stamp if q.stamp is not None and abs(q.stamp - stamp) <= _STAMP_TOLERANCE]
            self._by_stamp = [q for q in self._by_stamp if q not in now]
            found = found + now
        return found

    @property
    def waiting(self) -> list[Query]:
        """Those whose image has not come."""
        return [q for queries in self._by_frame.values() for q in queries] + self._by_stamp


def read_queries(path: str | Path) -> list[Query]:
    """Queries of a file, in its order.

    CSV: a header line naming the columns. YAML: a list of mappings, alone or under the key ``queries``. NPZ: an array
    for each column, or ``query_points`` (N, 3) of frame, y, x as TAP-Vid has them.

    Raises:
        QueryError: not readable, columns missing or unknown, no queries, or rows that are no points; names the first.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".yaml": _yaml_rows, ".yml": _yaml_rows, ".npz": _npz_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise QueryError(f"{path}: queries are read from .yaml, .csv or .npz files")
    queries = parsed_rows(path, reader(path), _query)
    if not queries:
        raise QueryError(f"{path}: no queries in it")
    return queries


def check_queries(queries: Iterable[Query], image_size: tuple[int, int], frames: int = 0) -> None:
    """Refuse queries that a recording has no place for.

    Args:
        queries: of a file.
        image_size: (height, width) of its images.
        frames: how many images it has; 0: not known.

    Raises:
        QueryError: naming the first that lies outside the image, or in an image beyond the last.
    """
    height, width = image_size
    for query in queries:
        if not (-0.5 <= query.x <= width - 0.5 and -0.5 <= query.y <= height - 0.5):
            raise QueryError(
                f"{query.source}: ({query.x:g}, {query.y:g}) lies outside the image of {width} x {height} pixels"
            )
        if frames and query.frame is not None and query.frame >= frames:
            raise QueryError(
                f"{query.source}: frame {query.frame}, but the recording has {frames} images (0 to {frames - 1})"
            )


def grid_queries(count: int, image_size: tuple[int, int], frame: int = 0) -> list[Query]:
    """``count`` x ``count`` points spread evenly over an image of (height, width), row by row."""
    height, width = image_size
    x, y = ((np.arange(count) + 0.5) * side / count - 0.5 for side in (width, height))
    return [Query(float(a), float(b), frame, source=f"--grid {count}") for b in y for a in x]


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True, restkey="")
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        _check_columns(path, columns)
        try:
            for row in reader:
                yield f"line {reader.line_num}", {key: (value or "") for key, value in row.items()}
        except csv.Error as error:
            raise QueryError(f"{path}, line {reader.line_num}: {error}") from error


def _yaml_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = yaml_content(path, "reading queries from YAML")
    if isinstance(content, dict) and set(content) == {"queries"}:
        content = content["queries"]
    if not isinstance(content, list):
        raise QueryError(f"{path}: expected a list of points like '- {{frame: 0, x: 320, y: 240}}'")
    for number, row in enumerate(content, start=1):
        if not isinstance(row, dict):
            raise QueryError(f"{path}, entry {number}: expected a point like {{frame: 0, x: 320, y: 240}}, got {row!r}")
        _check_columns(f"{path}, entry {number}", row)
        yield f"entry {number}", row


def _npz_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in (*_COLUMNS, "query_points") if name in content}
    except OSError:
        raise
    except Exception as error:  # ValueError, EOFError, BadZipFile, and more from damaged files
        reason = "" if "pickle" in str(error) else f": {error}"  # NumPy takes what is no NPZ for one
        raise QueryError(f"{path}: not an NPZ file of plain arrays{reason}") from error
    points = arrays.pop("query_points", None)
    if points is not None:
        if points.ndim != 2 or points.shape[1] != 3:
            raise QueryError(f"{path}: query_points has shape {points.shape}; expected (N, 3): frame, y, x")
        arrays |= dict(zip(("frame", "y", "x"), points.T, strict=True))
    _check_columns(path, arrays)
    counts = {name: array.shape for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or arrays["x"].ndim != 1:
        raise QueryError(f"{path}: arrays must be of one length (N,), got {counts}")
    for number in range(len(arrays["x"])):
        yield f"entry {number + 1}", {name: array[number].item() for name, array in arrays.items()}


def _check_columns(where: object, columns: Iterable[Any]) -> None:
    names = [str(name) for name in columns]
    for missing in ("x", "y"):
        if missing not in names:
            raise QueryError(f"{where}: no '{missing}'; a point has x and y, and may have frame or stamp, name, group")
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown:
        raise QueryError(f"{where}: '{unknown[0]}' is not known; known are {', '.join(_COLUMNS)}")


def _query(row: Mapping[str, Any], source: str) -> Query:
    """One row as a query. Raises QueryError without saying where."""
    if row.get(""):
        raise QueryError("more values than columns")
    given = given_values(row)
    if "frame" in given and "stamp" in given:
        raise QueryError("give frame or stamp, not both")
    stamp = as_number(given, "stamp", _nanoseconds) if "stamp" in given else None
    frame = None if stamp is not None else as_number(given, "frame", _whole) if "frame" in given else 0
    if frame is not None and frame < 0:
        raise QueryError(f"frame is {frame}; images are counted from 0")
    x, y = (float(as_number(given, name, finite)) for name in ("x", "y"))
    return Query(x, y, frame, stamp, str(given.get("name", "")).strip(), str(given.get("group", "")).strip(), source)


def _whole(value: Decimal, _: bool) -> int:
    if value != value.to_integral_value():
        raise ValueError
    return int(value)


def _nanoseconds(value: Decimal, seconds: bool) -> int:
    """Whole numbers are nanoseconds, those with a decimal point seconds."""
    return int((value * _NANOSECONDS).to_integral_value()) if seconds else int(value)
