"""The recording with its points drawn on it, as a video."""

from __future__ import annotations

from pathlib import Path

from taptrv2_core.drawing import DrawnVideo, DrawStyle
from taptrv2_core.tracking_run.following import TrackedFrame

_MIN_WIDTH = 640
_BYTES_A_FRAME = 64  # of the index an MP4 gets in the end
_BUFFERED = 1 << 20  # bytes the encoder may still hold


class OverlayVideo:
    """``overlay.mp4``: H.264, plays everywhere."""

    label = "Overlay"

    def __init__(self, path: Path, rate: float, max_width: int = 0) -> None:
        """``rate`` in images a second; wider images are reduced to ``max_width`` pixels, 0: they are not."""
        self.path = path
        style = DrawStyle(min_width=min(_MIN_WIDTH, max_width or _MIN_WIDTH), max_width=max_width)
        self._video = DrawnVideo(path, rate, style)

    def write(self, frame: TrackedFrame) -> None:
        """See `Output`."""
        tracks = frame.tracks
        caption = f"image {frame.number}   {len(tracks.ids)} points, {int(tracks.visible.sum())} visible"
        self._video.write(frame.image, tracks.ids, tracks.found_xy, tracks.visible, caption)

    def close(self) -> None:
        """See `Output`."""
        self._video.close()

    def bytes_to_close(self) -> int:
        """See `Output`."""
        return _BUFFERED + _BYTES_A_FRAME * self._video.frames
