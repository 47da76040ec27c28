"""One video with queries and ground truth, and how TAP-Vid picks queries."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from taptrv2_core.evaluation.metrics import METRIC_SIZE, QueryMode
from taptrv2_core.evaluation.tracking import Bools, Floats, Ints, Video

QUERY_STRIDE = 5
"""Frames between TAP-Vid's strided queries."""


@dataclass(frozen=True)
class Sample:
    """A video to evaluate on. T frames of H x W, N queries; positions are pixels x, y of these frames."""

    name: str
    video: Video
    """(T, H, W, 3) uint8 RGB."""
    query_frame: Ints
    """(N,)."""
    query_xy: Floats
    """(N, 2)."""
    gt_xy: Floats
    """(T, N, 2)."""
    gt_visible: Bools
    """(T, N)."""
    scored: Bools
    """(T, N): False where the truth was not annotated."""
    known: Bools
    """(T, N): True where ``gt_xy`` is the true position though the point is hidden."""
    query_mode: QueryMode = "first"

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.video.shape[1], self.video.shape[2]

    def __post_init__(self) -> None:
        if self.video.ndim != 4 or self.video.shape[3] != 3 or self.video.dtype != np.uint8:
            raise ValueError(
                f"{self.name}: the video must be (T, H, W, 3) uint8, got {self.video.shape} {self.video.dtype}"
            )
        frames, points = len(self.video), len(self.query_frame)
        expected = {"query_xy": (points, 2), "gt_xy": (frames, points, 2)}
        expected |= dict.fromkeys(("gt_visible", "scored", "known"), (frames, points))
        for what, shape in expected.items():
            got = getattr(self, what).shape
            if got != shape:
                raise ValueError(f"{self.name}: {what} must be {shape} to fit the video, got {got}")


def make_sample(
    name: str, video: Video, xy: Floats, visible: Bools, annotated: Bools | None = None, query_mode: QueryMode = "first"
) -> Sample:
    """Pick TAP-Vid's queries from annotated tracks.

    "first": each track is queried once, in the first frame that shows it. "strided": in every 5th frame, each track
    that is visible there gives one query. A track that is never visible gives none.

    Args:
        name: of the video.
        video: (T, H, W, 3) uint8 RGB.
        xy: (N, T, 2) pixels x, y.
        visible: (N, T).
        annotated: (N, T); None for all.
        query_mode: "first" or "strided".
    """
    if annotated is None:
        annotated = np.ones_like(visible)
    usable = visible & annotated
    if query_mode == "first":
        tracks = np.flatnonzero(usable.any(1))
        start = usable.argmax(1)[tracks]
    elif query_mode == "strided":
        start, tracks = np.nonzero(usable[:, ::QUERY_STRIDE].T)
        start = start * QUERY_STRIDE
    else:
        raise ValueError(f"query mode {query_mode!r} is not known: use 'first' or 'strided'")
    if not len(tracks):
        raise ValueError(f"{name}: no track is visible in any frame, so there is nothing to query")
    seen = np.ascontiguousarray(visible[tracks].T)
    return Sample(
        name=name,
        video=video,
        query_frame=start.astype(np.int64),
        query_xy=xy[tracks, start].astype(np.float32),
        gt_xy=np.ascontiguousarray(xy[tracks].swapaxes(0, 1), dtype=np.float32),
        gt_visible=seen,
        scored=np.ascontiguousarray(annotated[tracks].T),
        known=seen,
        query_mode=query_mode,
    )


def resize_video(video: Video, size: tuple[int, int]) -> Video:
    """(T, H, W, 3) -> (T, h, w, 3): pixel areas averaged when shrinking, bilinear when enlarging."""
    height, width = size
    if video.shape[1:3] == size:
        return video
    smaller = height <= video.shape[1] and width <= video.shape[2]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    resized = np.empty((len(video), height, width, 3), dtype=np.uint8)
    for frame, out in zip(video, resized, strict=True):
        out[:] = cv2.resize(frame, (width, height), interpolation=method)
    return resized


def tapvid_size(video: Video) -> Video:
    """Frames at TAP-Vid's 256 x 256, aspect ratio not kept."""
    return resize_video(video, (METRIC_SIZE, METRIC_SIZE))
