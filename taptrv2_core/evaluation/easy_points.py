"""Where Lucas-Kanade can be trusted: a second opinion on a recording without ground truth.

LK from frame to frame is precise on a textured point that stays in view, and drifts or follows the occluder elsewhere.
A point is *easy* as long as LK returns to its start forward and backward in every frame and the picture around it still
looks as it did at the query; once that fails it is not easy again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation.baselines import Grey, LucasKanade, grey_image
from taptrv2_core.evaluation.metrics import THRESHOLDS
from taptrv2_core.evaluation.tracking import Bools, Floats, Video

MAX_RETURN = 0.5  # pixels; of LK's forward-backward check in each frame
MIN_EIGENVALUE = 1e-3  # ten times OpenCV's: a textured window, not only one that is not flat
MIN_CORRELATION = 0.9  # of the patch with the query's
_PATCH = 15  # pixels; side of the patch that is compared


@dataclass(frozen=True)
class Agreement:
    """How far tracks lie from LK on easy points, in pixels of the recording; NaN where no point was easy."""

    share_easy: float
    """Of all tracked point-frames, how many are easy: what the other figures speak of."""
    median: float
    within: tuple[float, ...]
    """Share nearer than 1, 2, 4, 8 and 16 pixels."""
    called_visible: float
    """Share that the tracker calls visible. Easy points are in view, so this should be near 1."""


class EasyPoints:
    """Follows points by LK, image after image, as long as they are easy."""

    def __init__(self) -> None:
        self._lk = LucasKanade(max_return=MAX_RETURN, min_eigenvalue=MIN_EIGENVALUE)
        self._previous: Grey | None = None
        self._xy: Floats = np.zeros((0, 2), np.float32)
        self._easy: Bools = np.zeros(0, np.bool_)
        self._patches: list[Grey] = []

    def step(self, image: Video, new_xy: Floats) -> Floats:
        """Positions in the next image.

        Args:
            image: (H, W, 3) RGB uint8.
            new_xy: (K, 2) pixels of points that are queried in this image; they are numbered after those before.

        Returns:
            (N, 2) pixels of all points so far, NaN where they are not easy any more.
        """
        grey = grey_image(image)
        active = np.flatnonzero(self._easy)
        if self._previous is not None and active.size:
            xy, ok = self._lk.follow(self._previous, grey, self._xy[active])
            self._xy[active] = xy
            alike = [_correlation(_patch(grey, xy[k]), self._patches[i]) for k, i in enumerate(active)]
            self._easy[active] = ok & (np.array(alike) >= MIN_CORRELATION)
        self._previous = grey
        self._xy = np.concatenate((self._xy, np.asarray(new_xy, np.float32).reshape(-1, 2)))
        self._easy = np.concatenate((self._easy, np.ones(len(new_xy), np.bool_)))
        self._patches += [_patch(grey, xy) for xy in new_xy]
        return np.where(self._easy[:, None], self._xy, np.float32(np.nan))

    def forget(self) -> None:
        """None of the points is easy any more: the next image does not continue those before."""
        self._easy[:] = False


def agreement(xy: Floats, visible: Bools, easy_xy: Floats, after_query: Bools) -> Agreement:
    """Tracks beside LK's easy points.

    Args:
        xy: (T, N, 2) pixels, as the tracker gave them.
        visible: (T, N).
        easy_xy: (T, N, 2) rows of ``EasyPoints.step``, NaN where not easy.
        after_query: (T, N): the frames that count.
    """
    easy = after_query & np.isfinite(easy_xy).all(-1)
    distance = np.linalg.norm(xy[easy] - easy_xy[easy], axis=-1)
    if not distance.size:
        return Agreement(0.0 if after_query.any() else float("nan"), float("nan"), (float("nan"),) * 5, float("nan"))
    return Agreement(
        int(easy.sum()) / int(after_query.sum()),
        float(np.median(distance)),
        tuple(float((distance < threshold).mean()) for threshold in THRESHOLDS),
        float(visible[easy].mean()),
    )


def _patch(grey: Grey, xy: NDArray[np.float32]) -> Grey:
    """The picture around a point, sampled at its exact place; at the border the edge goes on."""
    center = (float(xy[0]), float(xy[1]))
    return cast(Grey, cv2.getRectSubPix(grey, (_PATCH, _PATCH), center))


def _correlation(a: Grey, b: Grey) -> float:
    """Normalised correlation of two patches, -1 to 1; 0 if one of them is flat."""
    x, y = a.astype(np.float64) - a.mean(), b.astype(np.float64) - b.mean()
    norm = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum()) / norm if norm else 0.0
