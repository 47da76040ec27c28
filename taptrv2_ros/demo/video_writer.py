"""H.264 in MP4, as every player and browser shows it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.extras import optional
from taptrv2_ros.demo.errors import DemoError

_CODECS = ("libx264", "libopenh264", "h264")


class VideoWriter:
    """Writes RGB images of one size; what was written is a whole file after ``close``, whenever that comes."""

    def __init__(self, path: Path, rate: float) -> None:
        """``rate`` in images a second."""
        self._av = optional("av", "av", "writing the overlay video")
        self._path = path
        self._rate = Fraction(rate).limit_denominator(1000)
        self._container: Any = None
        self._stream: Any = None

    def write(self, image: NDArray[np.uint8]) -> None:
        """The next image, (H, W, 3) RGB; an odd last row or column is cut, H.264 has none."""
        height, width = (side - side % 2 for side in image.shape[:2])
        if self._stream is None:
            self._stream = self._open(width, height)
        if (self._stream.width, self._stream.height) != (width, height):
            raise DemoError(f"image size changed from {self._stream.width}x{self._stream.height} to {width}x{height}")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()

    def _open(self, width: int, height: int) -> Any:
        name = next((c for c in _CODECS if c in self._av.codecs_available), None)
        if name is None:
            raise DemoError("PyAV has no H.264 encoder here; install its wheel: pip install av")
        self._container = self._av.open(str(self._path), "w", options={"movflags": "+faststart"})
        stream = self._container.add_stream(name, rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"} if name == "libx264" else {}
        return stream
