"""Points at rest: while the camera stands still, a point around which the picture is what it was is where it was.

A bare table top, or a wall, shows nothing that flow or the network could hold on to: a point there begins to wander.
And a point that something passes in front of is easily lost. But where the picture has not changed there is nothing to
find out. So for each point a place is kept, where it was seen last for certain, and what it looked like there; when
the picture there looks so again, the point is there again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 7
"""Pixels along a side of what is kept of how a place looks, every second one of the image."""
PLAIN = 2.5
"""Standard deviation, in grey levels, below which a place shows nothing that could be followed, beside noise."""
UNCHANGED = 1.5
"""Grey levels by which blocks, and beside noise places, may differ."""
BRIGHTNESS = 6.0
"""Grey levels by which a place may become brighter or darker than the whole image does."""
SHADOW = 20.0
"""Grey levels by which it may become so without something being in front of it."""
FOLLOWED = 4.0
"""Grey levels by which a point that was followed to another place may look different there."""
BLOCKS = (60, 80)
"""Rows and columns of blocks that an image is reduced to, to tell whether the camera stands still."""
CONTRAST = 6.0
"""Grey levels a block, the slope from which on a block would show a movement."""
FEWEST = 20
"""With fewer such blocks nothing can be told."""
STILL = 0.2
"""Share of them that must be unchanged: the others may be of things that move."""
CREEPING = 0.008
"""Blocks by which those may seem to have moved together."""
BACK = 8
"""Images for which the camera must have been still, and after which the one to compare with is replaced: a slow
movement needs as long to show."""
NOISE = 3.15
"""Mean of the absolute differences that normal noise makes, over their quantile `STILL`."""


class Places:
    """A place in a camera's image for each of N points, and what it looked like there.

    Attributes:
        xy: (N, 2) float64 x, y in pixels.
        looks: (N, `SIDE`, `SIDE`) float32 grey levels, as bright as the image was since which the camera is still.
        known: (N,) bool; where false the other two mean nothing.
    """

    def __init__(self) -> None:
        self.xy: NDArray[np.float64] = np.zeros((0, 2))
        self.looks: NDArray[np.float32] = np.zeros((0, SIDE, SIDE), dtype=np.float32)
        self.known: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self._noise = 0.0
        self._reference: _Blocks | None = None
        self._exposure = 1.0  # of the newest image, against the one since which the camera is still
        self._still_for = 0
        self._sampled: NDArray[np.int16] | None = None  # of the newest image, for its noise

    def add(self, grey: NDArray[np.uint8], xy: NDArray[np.float64]) -> None:
        """More points, at xy (N, 2) in the image grey (h, w)."""
        self.xy = np.concatenate((self.xy, xy))
        self.looks = np.concatenate((self.looks, self._look(grey, xy)))
        self.known = np.concatenate((self.known, np.ones(len(xy), dtype=bool)))

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep only the points in ``rows``."""
        self.xy, self.looks, self.known = self.xy[rows], self.looks[rows], self.known[rows]

    def enter(self, grey: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """A new image (h, w): which places, (N,), look as they did, and which have something in front of them.

        If the camera has moved none is known any more, and before it has been still for a while nothing is said of any.
        """
        before, self._sampled = self._sampled, grey[::8, ::8].astype(np.int16)
        if before is None or before.shape != self._sampled.shape:
            self._reference = None  # of images of another size
        self._compare(grey)
        if self._still_for == 0:
            self.known[:] = False
        told = self.known & (self._still_for >= BACK)
        same, other = told.copy(), told.copy()
        if told.any() and before is not None:
            self._noise = _noise(self._sampled - before)
            brighter, structure = _differences(self.looks[told], self._look(grey, self.xy[told]))
            alike = structure < UNCHANGED + self._noise
            same[told], other[told] = alike & (brighter < BRIGHTNESS), ~alike | (brighter > SHADOW)
        return same, other

    def plain(self) -> NDArray[np.bool_]:
        """Which places, (N,), show nothing that could be followed."""
        return np.asarray(self.looks.std(axis=(1, 2)) < np.hypot(PLAIN, self._noise))

    def seen(self, grey: NDArray[np.uint8], xy: NDArray[np.float64], rows: NDArray[np.int64]) -> None:
        """The points in ``rows`` (n,) were followed to xy (n, 2). What looks different there is not taken for them, and
        who seemed to leave a place that shows nothing is waited for until the camera counts as still. While it moves,
        places are not worth noting."""
        if self._still_for == 0:
            return
        looks = self._look(grey, xy)
        brighter, structure = _differences(self.looks[rows], looks)
        likely = (structure < FOLLOWED) & (brighter < BRIGHTNESS)
        if self._still_for < BACK:
            likely &= ~self.plain()[rows]
        likely |= ~self.known[rows]
        rows = rows[likely]
        self.xy[rows], self.looks[rows], self.known[rows] = xy[likely], looks[likely], True

    def _compare(self, grey: NDArray[np.uint8]) -> None:
        """Count the images for which the camera has been still."""
        import cv2  # here, so that training and the ops' checks need only torch and numpy

        blocks = np.asarray(cv2.resize(grey, BLOCKS[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)
        still = False
        if self._reference is not None:
            ratio = self._reference.brighter(blocks)
            still = self._reference.is_still(blocks, ratio)
            self._exposure = self._reference.exposure * ratio if still else 1.0
        self._still_for = self._still_for + 1 if still else 0
        if self._still_for % BACK == 0:
            self._reference = _Blocks(blocks, self._exposure)

    def _look(self, grey: NDArray[np.uint8], xy: NDArray[np.float64]) -> NDArray[np.float32]:
        """What is around points xy (N, 2), (N, `SIDE`, `SIDE`), were the light still the same."""
        return (_squares(grey, xy) / self._exposure).astype(np.float32)


class _Blocks:
    """An image reduced to `BLOCKS`, to compare others with; ``exposure``: see `Places`."""

    def __init__(self, blocks: NDArray[np.float32], exposure: float) -> None:
        self._blocks = blocks
        self.exposure = exposure
        across = (blocks[1:-1, 2:] - blocks[1:-1, :-2]) / 2
        down = (blocks[2:, 1:-1] - blocks[:-2, 1:-1]) / 2
        telling = np.maximum(np.abs(across), np.abs(down)) > CONTRAST
        self._telling = np.flatnonzero(np.pad(telling, 1))
        self._slopes = np.stack((across[telling], down[telling]))

    def brighter(self, blocks: NDArray[np.float32]) -> float:
        """How many times as bright another image is."""
        ratio = (blocks[::3, ::3] + 1) / (self._blocks[::3, ::3] + 1)
        middle = ratio.size // 2
        return float(np.partition(ratio.ravel(), middle)[middle])  # np.median takes three times as long

    def is_still(self, blocks: NDArray[np.float32], ratio: float) -> bool:
        """Whether enough of what would show a movement of the camera is unchanged in another image, ``ratio`` times as
        bright, and does not creep all together."""
        if len(self._telling) < FEWEST:
            return False
        change = blocks.ravel()[self._telling] - np.float32(ratio) * self._blocks.ravel()[self._telling]
        unchanged = np.abs(change) < UNCHANGED
        if np.count_nonzero(unchanged) < STILL * len(change):
            return False
        slopes = self._slopes[:, unchanged]  # and now as Lucas and Kanade
        (xx, xy), (_, yy) = (slopes @ slopes.T + np.eye(2)).tolist()
        x, y = (slopes @ change[unchanged]).tolist()
        return max(abs(yy * x - xy * y), abs(xx * y - xy * x)) < CREEPING * (xx * yy - xy * xy)


def _squares(grey: NDArray[np.uint8], xy: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Squares of `SIDE` pixels around points (N, 2); beyond the image its border goes on."""
    height, width = grey.shape
    around = 2 * (np.arange(SIDE) - SIDE // 2)
    x, y = np.fmin(np.fmax(np.rint(xy), 0), (width - 1, height - 1)).astype(np.int64).T  # 0 for what is no number
    columns = np.minimum(np.maximum(x[:, None] + around, 0), width - 1)
    rows = np.minimum(np.maximum(y[:, None] + around, 0), height - 1)
    return np.ascontiguousarray(grey).ravel().take(width * rows[:, :, None] + columns[:, None, :])


def _differences(
    looks: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of N pairs: by how many grey levels they differ in brightness, and, on average, in anything else."""
    difference = others - looks
    brighter = difference.mean(axis=(1, 2))
    structure = np.abs(difference - brighter[:, None, None]).mean(axis=(1, 2))
    return np.abs(brighter), structure


def _noise(difference: NDArray[np.int16]) -> float:
    """Mean absolute difference that noise makes between two images, of which `STILL` shows the same."""
    levels = np.cumsum(np.bincount(np.abs(difference).ravel()))
    return NOISE * int(np.searchsorted(levels, STILL * levels[-1], side="right"))
