"""Ground truth of a recording: where points really are, read from NPZ or CSV."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taptrv2_core.errors import RecordingError
from taptrv2_core.evaluation.tracking import Bools, Floats, Ints

_COLUMNS = ("frame", "id", "x", "y")


@dataclass(frozen=True)
class Truth:
    """True tracks of N points in T images. Pixels x, y; the centre of the top-left pixel is (0, 0).

    Attributes:
        ids: (N,) as the file names them; their place if it does not.
        xy: (T, N, 2); only read where ``visible``.
        visible: (T, N).
        annotated: (T, N): False where nobody has looked; what is not annotated is not scored.
    """

    ids: Ints
    xy: Floats
    visible: Bools
    annotated: Bools

    @property
    def frames(self) -> int:
        """T."""
        return len(self.xy)

    @property
    def query_frame(self) -> Ints:
        """(N,): the first image that shows each point, where TAP-Vid's "first" queries it."""
        return (self.visible & self.annotated).argmax(0).astype(np.int64)

    @property
    def query_xy(self) -> Floats:
        """(N, 2): where it is there."""
        return np.take_along_axis(self.xy, self.query_frame[None, :, None], axis=0)[0]

    def of(self, chosen: Bools) -> Truth:
        """Some of the points (N,)."""
        return Truth(self.ids[chosen], self.xy[:, chosen], self.visible[:, chosen], self.annotated[:, chosen])

    def first(self, frames: int) -> Truth:
        """The first ``frames`` images; beyond the truth's end nothing is annotated."""
        missing = max(frames - self.frames, 0)
        pad = [(0, missing), (0, 0)]
        return Truth(
            self.ids,
            np.pad(self.xy[:frames], [*pad, (0, 0)]),
            np.pad(self.visible[:frames], pad),
            np.pad(self.annotated[:frames], pad),
        )


def load_truth(path: Path) -> Truth:
    """Read a file of true tracks.

    NPZ: ``points`` (N, T, 2) in pixels, ``visible`` or ``occluded`` (N, T), and optionally ``annotated`` (N, T). With
    ``image_size`` (height, width) the points lie in [0, 1] as TAP-Vid has them: the layout of ``taptr track``.
    CSV: columns ``frame`` (from 0), ``id``, ``x``, ``y`` and optionally ``visible`` (1, the default, or 0); frames and
    points that have no row are not annotated, and x and y may be empty where a point is hidden.

    Raises:
        RecordingError: the file is missing, damaged or of another form, or a point is visible nowhere.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file of ground truth")
    truth = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    never = truth.ids[~(truth.visible & truth.annotated).any(0)]
    if len(never):
        raise RecordingError(f"{path}: point {never[0]} is visible in no frame, so nothing can be asked about it")
    return truth


def _read_npz(path: Path) -> Truth:
    try:
        with np.load(path) as data:
            points = np.asarray(data["points"], dtype=np.float32)
            visible = np.asarray(data["visible"] if "visible" in data else ~data["occluded"].astype(np.bool_), np.bool_)
            annotated = np.asarray(data["annotated"] if "annotated" in data else np.ones_like(visible), np.bool_)
            if "image_size" in data:
                height, width = data["image_size"]
                points = points * np.array([width - 1, height - 1], np.float32)
    except Exception as error:  # a damaged file raises nearly anything: BadZipFile, KeyError, ValueError, ...
        raise RecordingError(
            f"{path}: cannot be read as arrays 'points' (N, T, 2) and 'visible' or 'occluded' (N, T): {error}"
        ) from error
    if points.ndim != 3 or points.shape[2] != 2 or not (visible.shape == points.shape[:2] == annotated.shape):
        raise RecordingError(
            f"{path}: points {points.shape}, visible {visible.shape} and annotated {annotated.shape} do not fit; "
            "they must be (N, T, 2) in pixels and twice (N, T)"
        )
    bad = np.argwhere(visible & annotated & ~np.isfinite(points).all(-1))
    if len(bad):
        raise RecordingError(
            f"{path}: point {bad[0][0]} is visible in frame {bad[0][1]} but its position is not finite"
        )
    ids = np.arange(len(points), dtype=np.int64)
    return Truth(ids, np.ascontiguousarray(points.swapaxes(0, 1)), visible.T.copy(), annotated.T.copy())


def _read_csv(path: Path) -> Truth:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise RecordingError(f"{path}: has no column {', '.join(missing)}; needed are {', '.join(_COLUMNS)}")
        rows = [_row(path, reader.line_num, row) for row in reader]
    if not rows:
        raise RecordingError(f"{path}: has no rows")
    ids = np.unique([row[1] for row in rows]).astype(np.int64)
    shape = (max(row[0] for row in rows) + 1, len(ids))
    truth = Truth(ids, np.zeros((*shape, 2), np.float32), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_))
    for frame, point, x, y, visible in rows:
        column = int(np.searchsorted(ids, point))
        if truth.annotated[frame, column]:
            raise RecordingError(f"{path}: point {point} has two rows for frame {frame}; keep one")
        truth.xy[frame, column] = x, y
        truth.visible[frame, column], truth.annotated[frame, column] = visible, True
    return truth


def _row(path: Path, line: int, row: dict[str, str | None]) -> tuple[int, int, float, float, bool]:
    try:
        frame, point = int(row["frame"] or ""), int(row["id"] or "")
        flag = (row.get("visible") or "1").strip().lower()
        if flag not in ("0", "1", "true", "false"):
            raise ValueError(f"visible is {flag!r}, neither 0 nor 1")
        visible = flag in ("1", "true")
        x, y = (float(row[name] or ("nan" if visible else 0)) for name in ("x", "y"))
        if frame < 0:
            raise ValueError(f"frame is {frame}; frames count from 0")
        if visible and not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError("the point is visible but x or y is no finite number")
    except ValueError as error:
        raise RecordingError(f"{path}: line {line}: {error}") from None
    return frame, point, x, y, visible
