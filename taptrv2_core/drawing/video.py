"""H.264 in MP4, as every player and browser shows it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.errors import VideoError
from taptrv2_core.extras import optional

_CODECS = ("libx264", "libopenh264", "h264")
_SMALL = {"crf": "20", "preset": "veryfast"}
# As sharp a picture in a file half as large again, in a fifth of the time; a quarter of that is saved by one quantiser
# for all images, which needs no estimates of what each will take, and gives smaller files.
_FAST = {"qp": "23", "preset": "ultrafast", "tune": "zerolatency", "threads": "1"}


class VideoWriter:
    """Writes RGB images of one size, in constant memory; after ``close``, whenever that comes, the file is whole.

    As a context manager it closes on the way out. Nothing is written, not even an empty file, before the first image.
    """

    def __init__(self, path: str | Path, rate: float, fast: bool = False) -> None:
        """``rate`` in images a second; ``fast``: where encoding must not hold up other work.

        Raises MissingPackageError without PyAV, ValueError for a rate that is none.
        """
        self._av = optional("av", "av", "writing videos")
        if not 0 < rate < 1000:
            raise ValueError(f"{path}: a video of {rate:g} images a second cannot be written")
        self.path = Path(path)
        self.frames = 0
        """Images written so far."""
        self._options = _FAST if fast else _SMALL
        self._rate = Fraction(rate).limit_denominator(1000)
        self._size: tuple[int, ...] = (0, 0)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: NDArray[np.uint8]) -> None:
        """The next image, (H, W, 3) RGB; H.264 has no odd sizes: there the last row or column is shown twice.

        Raises:
            VideoError: its size is not the first image's, there is no encoder, or the file cannot be written.
        """
        if self._stream is None:
            self._size = image.shape[:2]
        if image.shape[:2] != self._size:
            (height, width), (now_height, now_width) = self._size, image.shape[:2]
            raise VideoError(f"{self.path}: image size changed from {width}x{height} to {now_width}x{now_height}")
        height, width = self._size
        if height % 2 or width % 2:
            padded = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            image = np.asarray(padded, dtype=np.uint8)
        # OpenCV converts the colours in a third of the time that FFmpeg takes, to the same values.
        planes = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YUV_I420)
        frame = self._av.VideoFrame.from_ndarray(planes, format="yuv420p")
        if self._stream is None:
            self._stream = self._open()  # as late as can be: a file without an image cannot be opened
        self._encode(frame)
        self.frames += 1

    def close(self) -> None:
        """Finish the file. Raises VideoError if it cannot be written."""
        if self._stream is None:
            return
        container = self._container
        try:
            self._encode(None)
            container.close()
        except self._av.FFmpegError as error:
            raise VideoError(f"{self.path}: cannot be finished: {error.strerror}") from error
        finally:
            self._container, self._stream = None, None

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise VideoError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _open(self) -> Any:
        name = next((c for c in _CODECS if c in self._av.codecs_available), None)
        if name is None:
            raise VideoError(f"{self.path}: PyAV has no H.264 encoder here; install its wheel: pip install av")
        try:
            self._container = self._av.open(str(self.path), "w", format="mp4", options={"movflags": "+faststart"})
            stream = self._container.add_stream(name, rate=self._rate)
            stream.height, stream.width = (side + side % 2 for side in self._size)
            stream.pix_fmt = "yuv420p"
            stream.options = self._options if name == "libx264" else {}
            self._container.start_encoding()
        except self._av.FFmpegError as error:
            raise VideoError(f"{self.path}: cannot be written: {error.strerror}") from error
        return stream
