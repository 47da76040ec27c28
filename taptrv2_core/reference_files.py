"""A reference as files: a picture, and a YAML file beside it that says which points of it are to be found.

::

    image: mug.png    # beside this file, or an absolute path
    group: mug        # may be left out
    points:           # x, y in pixels of the picture; a name if wanted
      - {x: 120.5, y: 88, name: rim}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.encodings import CompressedImage, RgbImage
from taptrv2_core.errors import ImageError, PointError, QueryError
from taptrv2_core.extras import optional
from taptrv2_core.images import checked_picture
from taptrv2_core.point_checks import checked_points, refuse_outside, why_too_large
from taptrv2_core.point_files import as_number, finite, given_values, parsed_rows, unreadable, yaml_content

SUFFIXES = (".yaml", ".yml")
_KEYS = ("image", "group", "points")
_POINT_KEYS = ("x", "y", "name")
_POINT = "{x: 120.5, y: 88, name: rim}"


@dataclass(frozen=True)
class Reference:
    """Points of a picture that is not part of a stream, for `Tracker.add_reference`.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        xy: (N, 2) float64 x, y in pixels of it, N > 0.
        names: of the N points; "" where one has none.
        group: of all of them; may be "".
        source: the file, for messages.
    """

    image: RgbImage
    xy: NDArray[np.float64]
    names: tuple[str, ...]
    group: str
    source: str


def read_reference(path: str | Path) -> Reference:
    """A reference of a YAML file and its picture, whatever OpenCV reads.

    Pixels are those of the file: an orientation stored in it and transparency are ignored, 16 bits become 8.

    Raises:
        QueryError: not readable, keys missing or unknown, no picture, no points, or entries that are no points of the
            picture; one line that names the file and the first bad entry.
        MissingPackageError: PyYAML is not installed.
    """
    path = _yaml_path(path)
    try:
        content = yaml_content(path, "reading references")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    try:
        name, group, points = _parts(content)
    except QueryError as error:
        raise QueryError(f"{path}: {error}") from None
    image = _read_image(path, path.parent / name)

    def parse(row: Any, source: str) -> tuple[float, float, str]:
        return _point(row, image.shape[1], image.shape[0])

    rows = parsed_rows(path, ((f"entry {n}", row) for n, row in enumerate(points, start=1)), parse)
    xy = np.array([row[:2] for row in rows], dtype=np.float64)
    return Reference(image, xy, tuple(row[2] for row in rows), group, str(path))


def check_references(references: Iterable[Reference], image_size: tuple[int, int]) -> None:
    """Raises QueryError of the first whose picture is larger than a recording's images of (height, width)."""
    for reference in references:
        why = why_too_large(reference.image.shape, image_size, "the images")
        if why:
            raise QueryError(f"{reference.source}: its picture {why}")


def write_reference(
    path: str | Path, image: ArrayLike, xy: ArrayLike, group: str = "", names: Sequence[str] = ()
) -> None:
    """Write a reference: a YAML file, and its picture as a PNG beside it, of the same name but for the suffix.

    Earlier files of these names are replaced once both new ones are on the disk.

    Args:
        path: of the YAML file.
        image: (h, w, 3) RGB or (h, w) grey, uint8.
        xy: (N, 2) x, y in pixels of it, N > 0.
        group: of all points.
        names: of the N points; empty: they have none.

    Raises:
        QueryError: the picture or the points cannot be used, or the files not be written; each is whole, or as it was.
        MissingPackageError: PyYAML is not installed.
    """
    path = _yaml_path(path)
    picture, points = _checked(path, image, xy)
    if names and len(names) != len(points):
        raise QueryError(f"{path}: {len(names)} names for {len(points)} points")
    rows = [
        {"x": float(x), "y": float(y)} | ({"name": str(name)} if name else {})
        for (x, y), name in zip(points, names or [""] * len(points), strict=True)
    ]
    photo = path.with_suffix(".png")
    content = {"image": photo.name} | ({"group": str(group)} if group else {}) | {"points": rows}
    yaml = optional("yaml", "pyyaml", "writing references")
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10**6)
    file = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    _replace({photo: file, path: text.encode("utf-8", "backslashreplace")})


def _yaml_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise QueryError(f"{path}: a reference is a .yaml file that names a picture and points of it")
    return path


def _checked(path: Path, image: ArrayLike, xy: ArrayLike) -> tuple[RgbImage, NDArray[np.float64]]:
    """(h, w, 3) uint8 RGB and (N, 2), N > 0. Raises QueryError."""
    try:
        picture, points = checked_picture(image), checked_points(xy)
        refuse_outside(points, (picture.shape[0], picture.shape[1]))
    except (ImageError, PointError) as error:
        raise QueryError(f"{path}: {error}") from error
    if picture.dtype != np.uint8:
        raise QueryError(f"{path}: the picture is {picture.dtype}; expected uint8")
    if not len(points):
        raise QueryError(f"{path}: no points were given")
    return picture, points


def _parts(content: Any) -> tuple[str, str, list[Any]]:
    """Name of the picture, group, and points. Raises QueryError without saying where."""
    if not isinstance(content, dict):
        raise QueryError(f"expected 'image: FILE' and 'points:', a list of points like '- {_POINT}'")
    _refuse_unknown(content, _KEYS)
    name, group, points = _text(content, "image"), _text(content, "group"), content.get("points")
    if not name:
        raise QueryError("no 'image'; it names the picture that the points are in: 'image: FILE'")
    if not isinstance(points, list) or not points:
        raise QueryError(f"no points in it; expected 'points:' and a list of points like '- {_POINT}'")
    return name, group, points


def _read_image(path: Path, file: Path) -> RgbImage:
    """The picture that a reference names. Raises QueryError."""
    try:
        image = CompressedImage(np.frombuffer(file.read_bytes(), np.uint8), file.suffix).rgb()
        checked_picture(image)
    except (OSError, ValueError) as error:  # the latter of names that no file can have too
        reason = getattr(error, "strerror", None) or error
        raise QueryError(f"{path}: its image {file} cannot be read: {reason}") from error
    return image


def _point(row: Any, width: int, height: int) -> tuple[float, float, str]:
    """x, y and name of an entry. Raises QueryError without saying where."""
    if not isinstance(row, Mapping):
        raise QueryError(f"expected a point like {_POINT}, got {row!r}")
    _refuse_unknown(row, _POINT_KEYS)
    given = given_values(row)
    x, y = (float(as_number(given, name, finite)) for name in ("x", "y"))
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise QueryError(f"({x:g}, {y:g}) lies outside the picture of {width} x {height} pixels")
    return x, y, _text(given, "name")


def _text(values: Mapping[Any, Any], key: str) -> str:
    """A value that is text or a number; "" without one. Raises QueryError without saying where."""
    value = values.get(key)
    if isinstance(value, (Mapping, list)):
        raise QueryError(f"{key} is {value!r}, expected text")
    return "" if value is None else str(value).strip()


def _refuse_unknown(values: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    unknown = [key for key in values if key not in known]
    if unknown:
        raise QueryError(f"{str(unknown[0])!r} is not known; known are {', '.join(known)}")


def _replace(files: dict[Path, bytes]) -> None:
    """Write files beside their places, then rename them, so that each is whole or as it was. Raises QueryError."""
    beside = {path: path.with_name(f"{path.name}.partial") for path in files}
    for path in files:
        if path.is_dir():  # told before anything is replaced
            raise QueryError(f"{path}: cannot be written: it is a folder")
    try:
        for path, content in files.items():
            with beside[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # robots lose their power
        for path, written in beside.items():
            written.replace(path)
    except OSError as error:
        raise QueryError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        for written in beside.values():
            with suppress(OSError):  # it was never made
                written.unlink(missing_ok=True)
