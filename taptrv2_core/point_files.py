"""What files of points have in common: rows of values, and one line for those that are no points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

from taptrv2_core.errors import QueryError
from taptrv2_core.extras import optional

T = TypeVar("T")


def yaml_content(path: Path, purpose: str) -> Any:
    """What a YAML file holds. ``purpose``: for a message where PyYAML is not installed.

    Raises QueryError (no YAML), OSError, UnicodeDecodeError.
    """
    yaml = optional("yaml", "pyyaml", purpose)
    text = path.read_text(encoding="utf-8")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of a date that there is not
        raise QueryError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def parsed_rows(
    path: Path, rows: Iterable[tuple[str, Mapping[str, Any]]], parse: Callable[[Mapping[str, Any], str], T]
) -> list[T]:
    """Each row by ``parse``, which gets it and where it is. ``rows``: place in the file and values of each.

    Raises QueryError: the file cannot be read, or rows are no points; names the first.
    """
    parsed, faults = [], []
    try:
        for where, row in rows:
            try:
                parsed.append(parse(row, f"{path}, {where}"))
            except QueryError as error:
                faults.append(f"{where}: {error}")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    if faults:
        more = f" (bad rows in all: {len(faults)})" if len(faults) > 1 else ""
        raise QueryError(f"{path}, {faults[0]}{more}")
    return parsed


def unreadable(path: Path, error: Exception) -> QueryError:
    """For a file that cannot be read."""
    return QueryError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def given_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a row that are not empty. Raises QueryError without saying where: no x or no y."""
    given = {key: value for key, value in row.items() if value is not None and value != ""}
    for needed in ("x", "y"):
        if needed not in given:
            raise QueryError(f"{needed} is missing")
    return given


def as_number(row: Mapping[str, Any], name: str, convert: Callable[[Decimal, bool], Any]) -> Any:
    """A value of a row, by ``convert``, which gets it and whether it has a decimal point.

    Raises QueryError without saying where.
    """
    value = row[name]
    try:
        if isinstance(value, bool):
            raise InvalidOperation
        return convert(Decimal(str(value).strip()), isinstance(value, float) or "." in str(value))
    except (InvalidOperation, ValueError, OverflowError):
        kind = "whole number" if name == "frame" else "number"
        raise QueryError(f"{name} is {value!r}, not a {kind}") from None


def finite(value: Decimal, _: bool) -> Decimal:
    """For `as_number`: any but NaN and infinities."""
    if not value.is_finite():
        raise ValueError
    return value
