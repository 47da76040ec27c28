"""A few images of a recording with their tracks drawn in, for reports."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.drawing import DrawStyle, PointDrawer
from taptrv2_core.encodings import encode_jpeg
from taptrv2_core.evaluation.tracking import Video
from taptrv2_core.replay.measures import Judged

_MOST = 8  # images held
_WIDTH = 640  # pixels; larger ones are shown reduced
_QUALITY = 85


class Snapshots:
    """Keeps some images of a stream of unknown length, evenly spread, and the newest."""

    def __init__(self) -> None:
        self._every = 1
        self._kept: dict[int, Video] = {}
        self._newest: tuple[int, Video] | None = None

    def add(self, index: int, image: Video) -> None:
        """The next image (H, W, 3), by its number."""
        self._newest = (index, image)
        if index % self._every:
            return
        if len(self._kept) == _MOST:
            self._every *= 2
            self._kept = {i: kept for i, kept in self._kept.items() if i % self._every == 0}
        if index % self._every == 0:
            self._kept[index] = image

    def pick(self, count: int) -> list[tuple[int, Video]]:
        """Up to ``count`` of them, from the first to the last."""
        found = sorted((self._kept | dict([self._newest] if self._newest else [])).items())
        places = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int))
        return [found[place] for place in places]


def draw_tracks(index: int, image: Video, judged: Judged) -> NDArray[np.uint8]:
    """Image ``index`` with its points and the tails of the images before."""
    drawer = PointDrawer(DrawStyle(min_width=_WIDTH))
    begin = max(0, index - drawer.style.tail)
    for t in range(begin, index + 1):
        there = (judged.query_frame <= t) & (t < judged.end)
        picture = drawer.draw(image, judged.ids[there], judged.xy[t, there], judged.visible[t, there])
    return picture


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB as a JPEG file, reduced to a report's width."""
    if picture.shape[1] > _WIDTH:
        height = round(picture.shape[0] * _WIDTH / picture.shape[1])
        picture = np.asarray(cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return encode_jpeg(picture, _QUALITY)
