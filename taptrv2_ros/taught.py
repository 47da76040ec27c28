"""References that a camera's points are looked for from its first image on: the parameter ``references``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from taptrv2_core import ImageError, PointError
from taptrv2_core.errors import MissingPackageError, QueryError
from taptrv2_core.reference_files import read_reference
from taptrv2_ros.parameters import ParameterError
from taptrv2_ros.points import Points


def look_for_files(points: Points, files: Iterable[str]) -> None:
    """Raises ParameterError that names the file that cannot be used."""
    for file in filter(None, files):
        try:
            reference = read_reference(Path(file).expanduser())
            points.look_for(reference.image, reference.xy, reference.group)
        except (QueryError, MissingPackageError) as error:  # which name it
            raise ParameterError(f"parameter 'references': {error}") from error
        except (PointError, ImageError) as error:
            raise ParameterError(f"parameter 'references': {file}: {error}") from error
