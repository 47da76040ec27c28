"""Where a flat surface went: a homography from tracks that may be wrong, mended by looking at the images."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.demos.sticker.agreement import cut_patch, mismatch
from taptrv2_core.encodings import RgbImage

Warp = NDArray[np.float64]
"""(3, 3) homography, pixels of the reference image -> pixels of another."""
_TOLERANCE = 2.5  # pixels within which a track agrees with the surface
_LEAST = 8  # tracks that must agree
_LEAST_SHARE = 0.2
_BETTER = 0.08  # share of the pixels by which staying where it was must win against the tracks
_FARTHEST = 0.08  # of the box's diagonal: farthest that alignment of the images may move a corner
_SEEN = 0.45  # share of the pixels that must look as before


class Placement(NamedTuple):
    """The surface in one image."""

    warp: Warp
    on_surface: NDArray[np.bool_]
    """(N,) tracks that are seen and where the warp has them."""
    sure: bool
    """Whether images and tracks bear it out; else it is where it was last."""


class WarpEstimator:
    """Finds the surface in one image after another, beginning beside the reference image."""

    def __init__(self, reference: RgbImage, corners: NDArray[np.float64], points: NDArray[np.float64]) -> None:
        """``corners`` (4, 2) of the upright box on the surface; ``points`` (N, 2) the tracked ones: pixels x, y."""
        self._corners, self._points = corners, points
        low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        high = np.ceil(corners.max(axis=0)).astype(int) + 1
        self._patch = np.ascontiguousarray(reference[low[1] : high[1], low[0] : high[0]])
        self._to_reference = np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1]], np.float64)
        self._last = np.eye(3)

    def update(self, image: RgbImage, xy: NDArray[np.float32], visible: NDArray[np.bool_]) -> Placement:
        """The surface in the next image, (H, W, 3), where the tracks are at ``xy`` (N, 2), seen or not (N,)."""
        found = self._from_tracks(xy, visible)
        warps = [self._aligned(image, warp) for warp in (found, self._last) if warp is not None]
        shares = [self._agreement(image, warp) for warp in warps]
        best = 1 if len(warps) == 2 and shares[1] > shares[0] + _BETTER else 0
        warp, sure = warps[best], shares[best] > _SEEN
        errors = np.linalg.norm(_moved(self._points, warp) - xy, axis=1)
        if sure:
            self._last = warp
        return Placement(warp if sure else self._last, visible & (errors < 2 * _TOLERANCE), sure)

    def _from_tracks(self, xy: NDArray[np.float32], visible: NDArray[np.bool_]) -> Warp | None:
        """A homography most tracks agree on; an affine map where a homography folds the box over."""
        least = max(_LEAST, _LEAST_SHARE * int(visible.sum()))
        if visible.sum() < least:
            return None
        source, target = self._points[visible].astype(np.float32), xy[visible]
        found, agree = cv2.findHomography(source, target, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=3000, confidence=0.999)
        if found is not None and agree.sum() >= least:
            warp: Warp = np.asarray(found, dtype=np.float64)
            if self._plausible(warp):
                return warp
        affine, agree = cv2.estimateAffine2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE)
        if affine is None or agree.sum() < least:
            return None
        warp = np.vstack((affine, (0, 0, 1))).astype(np.float64)
        return warp if self._plausible(warp) else None

    def _plausible(self, warp: Warp) -> bool:
        """The box is still convex, not mirrored, and has not jumped from where it was in the image before."""
        now, before = _moved(self._corners, warp), _moved(self._corners, self._last)
        sides = np.roll(now, -1, axis=0) - now
        turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
        if not np.isfinite(now).all() or (turns <= 0).any():
            return False
        areas = [cv2.contourArea(quad.astype(np.float32)) for quad in (now, before)]
        jump = np.max(np.linalg.norm(now - before, axis=1))
        return 0.6 < areas[0] / max(areas[1], 1e-6) < 1.67 and jump < 0.4 * np.sqrt(areas[1]) + 8

    def _aligned(self, image: RgbImage, warp: Warp) -> Warp:
        """The warp after the reference was aligned with the image (ECC), or as it was where that leads astray."""
        target = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        template = cv2.cvtColor(self._patch, cv2.COLOR_RGB2GRAY)
        same = (mismatch(self._patch, self._cut(image, warp)) < 0.5).astype(np.uint8) * 255
        start = (warp @ self._to_reference).astype(np.float32)
        mask = cv2.warpPerspective(same, start, (image.shape[1], image.shape[0]), flags=cv2.INTER_NEAREST)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-4)
        try:
            _, found = cv2.findTransformECC(template, target, start, cv2.MOTION_HOMOGRAPHY, criteria, mask, 5)
        except cv2.error:  # it did not converge
            return warp
        aligned: Warp = found.astype(np.float64) @ np.linalg.inv(self._to_reference)
        moved = np.max(np.linalg.norm(_moved(self._corners, aligned) - _moved(self._corners, warp), axis=1))
        return aligned if moved < _FARTHEST * np.linalg.norm(np.ptp(self._corners, axis=0)) else warp

    def _agreement(self, image: RgbImage, warp: Warp) -> float:
        """Share of the surface that looks as it did."""
        return 1.0 - float(mismatch(self._patch, self._cut(image, warp)).mean())

    def _cut(self, image: RgbImage, warp: Warp) -> RgbImage:
        """What is at the surface's place, in the reference's pixels."""
        size = (self._patch.shape[1], self._patch.shape[0])
        return cut_patch(image, warp @ self._to_reference, size)


def _moved(points: NDArray[np.float64], warp: Warp) -> NDArray[np.float64]:
    return np.asarray(cv2.perspectiveTransform(points[None].astype(np.float64), warp)[0], dtype=np.float64)
