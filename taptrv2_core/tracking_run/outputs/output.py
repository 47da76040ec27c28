"""What every kind of output can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from taptrv2_core.tracking_run.following import TrackedFrame
from taptrv2_core.tracking_run.points import Label

Labels = Mapping[int, Label]
"""Of points by their ids; grows while points are added."""
JPEG_QUALITY = 90
"""Of images that the recording has not compressed itself."""


class Output(Protocol):
    """A file (or folder) that takes one frame after another, in memory that does not grow with their number."""

    label: str
    """What it is, for people."""
    path: Path

    def write(self, frame: TrackedFrame) -> None:
        """The next frame. Raises OSError: it cannot be written."""

    def close(self) -> None:
        """Finish the file, so that it is whole. Raises OSError."""

    def bytes_to_close(self) -> int:
        """Room on the disk that `close` will need, about."""
