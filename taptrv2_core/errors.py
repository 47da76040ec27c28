"""Errors a caller may want to tell apart. Each message says what, where and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class CheckpointError(RuntimeError):
    """A weights file cannot be used."""


class ImageError(ValueError):
    """An image cannot be tracked; the tracker is as it was before."""


class PointError(ValueError):
    """A request about points is refused as a whole; the tracker is as it was before.

    Attributes:
        ids: the points concerned, where they have ids.
    """

    def __init__(self, message: str, ids: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class RecordingError(ValueError):
    """A recording (bag, video file, folder of images) cannot be read, or not further than this."""


class VideoError(OSError):
    """A video cannot be written: no encoder, another size of image, no room on the disk."""


class MissingPackageError(RuntimeError):
    """A Python package that only this part needs is not installed; the message names it."""


class QueryError(ValueError):
    """A file of queries cannot be used; the message names the row."""
