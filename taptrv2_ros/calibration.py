"""``sensor_msgs/CameraInfo`` to the core's camera model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from taptrv2_core.camera_model import CalibrationError, CameraModel
from taptrv2_core.depth import DepthImage


def camera_model(info: CameraInfo, image_size: tuple[int, int], rectified: bool) -> CameraModel:
    """The camera of images of that (height, width).

    ``rectified`` says that the images have been rectified (image_proc's image_rect): then P describes them and there is
    no distortion; camera_info itself is the same for both. Binning and the region of interest are taken into account.
    Raises CalibrationError: not calibrated, an unknown distortion, or for images of another size.
    """
    matrix = (
        np.array(info.p, dtype=np.float64).reshape(3, 4)[:, :3]
        if rectified
        else np.array(info.k, dtype=np.float64).reshape(3, 3)
    )
    binning = np.array([max(info.binning_x, 1), max(info.binning_y, 1)], dtype=np.float64)
    height, width = _expected_size(info, binning)
    if (height, width) != tuple(image_size):
        raise CalibrationError(
            f"camera_info is for images of {width} x {height} pixels, but these are {image_size[1]} x {image_size[0]}"
        )
    matrix[:2, 2] -= (info.roi.x_offset, info.roi.y_offset)
    matrix[:2] /= binning[:, None]
    if rectified:
        return CameraModel(image_size, matrix)
    return CameraModel(image_size, matrix, info.distortion_model, tuple(info.d))


def check_registered(depth: DepthImage, image_size: tuple[int, int]) -> None:
    """Raises CalibrationError for depth that cannot show what the images show: another aspect."""
    (height, width), (image_height, image_width) = depth.values.shape, image_size
    if abs(height * image_width - width * image_height) > max(image_size):
        raise CalibrationError(
            f"depth is {width} x {height} pixels, the images are {image_width} x {image_height}: it is not registered "
            "to them (RealSense: align_depth.enable:=true, and the topic aligned_depth_to_color)"
        )


def _expected_size(info: CameraInfo, binning: NDArray[np.float64]) -> tuple[int, int]:
    """(height, width) of the images: of the region of interest where there is one, less by binning."""
    full = np.array([info.roi.height or info.height, info.roi.width or info.width])
    height, width = (full // binning[::-1]).astype(int).tolist()
    return height, width
