"""Images put aside on disk, to be taken back last first: in memory there is one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile

import cv2
import numpy as np

from taptrv2_core.encodings import RgbImage, encode_jpeg


class Spool:
    """A pile of images in a temporary file that is gone when the spool is closed."""

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="taptr_spool_")  # noqa: SIM115  # closed with the spool
        self._ends = [0]

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def push(self, image: RgbImage) -> None:
        """Put an image on the pile, as JPEG of high quality. Raises OSError where the disk is full."""
        data = encode_jpeg(image, 97)
        self._file.seek(self._ends[-1])
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def newest_first(self) -> Iterator[RgbImage]:
        """All images, the one put there last first."""
        for start, end in zip(self._ends[-2::-1], self._ends[:0:-1], strict=True):
            self._file.seek(start)
            data = np.frombuffer(self._file.read(end - start), np.uint8)
            yield np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
