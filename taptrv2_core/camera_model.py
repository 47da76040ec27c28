"""A calibrated camera: pixels to viewing rays, with the lens's distortion undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,), "fisheye": (4,)}
"""Distortion models by ROS's names, and how many coefficients OpenCV takes for each."""
_FISHEYE = ("equidistant", "fisheye")
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
_UNDONE = 0.1
"""Pixels by which a ray, projected again, may miss the pixel it is for: undoing strong distortion can fail."""


class CalibrationError(ValueError):
    """Camera calibration that cannot be used; the message says why."""


@dataclass(frozen=True)
class CameraModel:
    """Pinhole camera with lens distortion. Axes: x right, y down, z forward (ROS's optical frame).

    Attributes:
        image_size: (height, width) of the images it is for.
        matrix: (3, 3) intrinsics in pixels: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].
        distortion_model: "plumb_bob", "rational_polynomial", "equidistant", or "" for none.
        distortion: its coefficients, in OpenCV's order; empty or zeros for none.

    Raises CalibrationError for focal lengths that are not positive (an uncalibrated camera), a distortion model not
    listed, or coefficients that are not finite or not as many as the model has.
    """

    image_size: tuple[int, int]
    matrix: NDArray[np.float64]
    distortion_model: str = ""
    distortion: NDArray[np.float64] | tuple[float, ...] = ()

    def __post_init__(self) -> None:
        focal = self.matrix[0, 0], self.matrix[1, 1]
        if not (np.isfinite(self.matrix).all() and min(focal) > 0):
            raise CalibrationError(
                f"the camera is not calibrated: its focal lengths are {focal[0]:g} and {focal[1]:g} pixels"
            )
        if not self.distorted:
            return
        if self.distortion_model not in _COEFFICIENTS:
            raise CalibrationError(
                f"distortion model '{self.distortion_model}' is not supported; supported are {', '.join(_COEFFICIENTS)}"
            )
        allowed = _COEFFICIENTS[self.distortion_model]
        if len(self.distortion) not in allowed:
            raise CalibrationError(
                f"distortion model '{self.distortion_model}' has {' or '.join(map(str, allowed))} coefficients, "
                f"not {len(self.distortion)}"
            )
        if not np.isfinite(self.distortion).all():
            shown = ", ".join(f"{value:g}" for value in self.distortion)
            raise CalibrationError(f"the camera is not calibrated: its distortion is {shown}")

    @property
    def distorted(self) -> bool:
        """Whether there is distortion to be undone."""
        return bool(np.any(np.asarray(self.distortion, dtype=np.float64) != 0))

    def rays(self, xy: ArrayLike) -> NDArray[np.float64]:
        """(N, 2) pixels x, y -> (N, 2) the points (x, y, 1) on their rays; NaN where the lens model has none."""
        pixels = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
        result = np.full(pixels.shape, np.nan)
        usable = np.isfinite(pixels).all(axis=1)
        if usable.any():
            result[usable] = self._undistorted(pixels[usable])
        return result

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N, 3) points in the optical frame, z > 0 -> (N, 2) pixels x, y."""
        xyz = np.asarray(points, dtype=np.float64).reshape(-1, 1, 3)
        if not len(xyz):
            return np.zeros((0, 2))
        coefficients = np.asarray(self.distortion, dtype=np.float64) if self.distorted else np.zeros(4)
        zero = np.zeros(3)
        if self.distorted and self.distortion_model in _FISHEYE:
            pixels, _ = cv2.fisheye.projectPoints(xyz, zero, zero, self.matrix, coefficients)
        else:
            pixels, _ = cv2.projectPoints(xyz, zero, zero, self.matrix, coefficients)
        return np.asarray(pixels, dtype=np.float64).reshape(-1, 2)

    def _undistorted(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.distorted:
            centre = self.matrix[:2, 2]
            return (pixels - centre) / np.diag(self.matrix)[:2]
        points, coefficients = pixels[:, None], np.asarray(self.distortion, dtype=np.float64)
        if self.distortion_model in _FISHEYE:
            undone = cv2.fisheye.undistortPoints(points, self.matrix, coefficients)
        else:
            # OpenCV 4 has a function of its own for the one that takes criteria; the plain one stops after 5 rounds.
            undistort: Any = getattr(cv2, "undistortPointsIter", cv2.undistortPoints)
            undone = undistort(points, self.matrix, coefficients, R=None, P=None, criteria=_CRITERIA)
        rays = np.asarray(undone, dtype=np.float64).reshape(-1, 2)
        missed = np.linalg.norm(self.project(np.c_[rays, np.ones(len(rays))]) - pixels, axis=1)
        rays[~(missed < _UNDONE)] = np.nan
        return rays
