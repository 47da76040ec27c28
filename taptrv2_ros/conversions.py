"""ROS image messages to RGB arrays, without cv_bridge, which lacks nv12 and uyvy and fails on big-endian images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

RgbImage = NDArray[np.uint8]
Pixels = NDArray[Any]
_MAX_SIDE = 32767  # OpenCV's own limit in most of its colour conversions


class ConversionError(ValueError):
    """An image message that cannot be converted.

    ``problem`` names the kind of fault without the numbers that differ from frame to frame, so that a stream of faulty
    images can be reported once.
    """

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(f"{problem}: {detail}")
        self.problem = problem


@dataclass(frozen=True)
class _Format:
    """How the pixels of an encoding lie in memory, and how they become RGB."""

    channels: int
    depth: int
    """Bytes of one channel."""
    to_rgb: Callable[[Pixels], Pixels]
    """(H, W) or (H, W, channels), contiguous, native byte order -> (H, W, 3) of the same depth."""


def _colour(code: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _unchanged(pixels: Pixels) -> Pixels:
    return pixels


# OpenCV names a Bayer pattern by the second pixel of the second row, ROS by the first pixel of the first.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_FORMATS: dict[str, _Format] = {
    "rgb8": _Format(3, 1, _unchanged),
    "bgr8": _Format(3, 1, _colour(cv2.COLOR_BGR2RGB)),
    "rgba8": _Format(4, 1, _colour(cv2.COLOR_RGBA2RGB)),
    "bgra8": _Format(4, 1, _colour(cv2.COLOR_BGRA2RGB)),
    "mono8": _Format(1, 1, _colour(cv2.COLOR_GRAY2RGB)),
    "rgb16": _Format(3, 2, _unchanged),
    "bgr16": _Format(3, 2, _colour(cv2.COLOR_BGR2RGB)),
    "rgba16": _Format(4, 2, _colour(cv2.COLOR_RGBA2RGB)),
    "bgra16": _Format(4, 2, _colour(cv2.COLOR_BGRA2RGB)),
    "mono16": _Format(1, 2, _colour(cv2.COLOR_GRAY2RGB)),
    # OpenCV's names, as some drivers write them: one channel is grey, three are blue, green, red.
    "8UC1": _Format(1, 1, _colour(cv2.COLOR_GRAY2RGB)),
    "8UC3": _Format(3, 1, _colour(cv2.COLOR_BGR2RGB)),
    "8UC4": _Format(4, 1, _colour(cv2.COLOR_BGRA2RGB)),
    # Two bytes a pixel, two pixels sharing their colour; "yuv422" is ROS's older name of UYVY.
    "yuv422": _Format(2, 1, _colour(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": _Format(2, 1, _colour(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": _Format(2, 1, _colour(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": _Format(2, 1, _colour(cv2.COLOR_YUV2RGB_YUY2)),
    **{f"bayer_{name}8": _Format(1, 1, _colour(code)) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": _Format(1, 2, _colour(code)) for name, code in _BAYER.items()},
}
_SHARED_COLOUR = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")
# A plane of brightness, then one of colour with half its height and width, U and V (nv12) or V and U (nv21) in turn.
_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}

SUPPORTED_ENCODINGS = (*_FORMATS, *_PLANAR)


def image_to_rgb(message: Image) -> RgbImage:
    """A ``sensor_msgs/Image`` as (H, W, 3) uint8 RGB; may share the message's memory, so do not write into it.

    16-bit images are scaled to 8 bits (65535 becomes 255). Rows may be padded (``step``), 16-bit data big-endian.
    Raises ConversionError: unknown encoding, no pixels, too few bytes, or a ``step`` shorter than a row.
    """
    encoding = message.encoding
    _check_size(message)
    if encoding in _PLANAR:
        return _planar_to_rgb(message)
    if encoding not in _FORMATS:
        raise ConversionError(f"encoding '{encoding}' is not supported", _advice(encoding))
    form = _FORMATS[encoding]
    if encoding in _SHARED_COLOUR and message.width % 2:
        raise ConversionError(f"{encoding} image of odd width", f"{message.width} pixels; two share their colour")
    rows = _rows(message, message.height, form.channels * form.depth)
    pixels = _shape(rows, message.height, message.width, form, bool(message.is_bigendian))
    rgb: Pixels = form.to_rgb(pixels)
    if form.depth == 2:
        rgb = cv2.convertScaleAbs(rgb, alpha=255.0 / 65535.0)
    return np.ascontiguousarray(rgb, dtype=np.uint8)


def compressed_to_rgb(message: CompressedImage) -> RgbImage:
    """A ``sensor_msgs/CompressedImage`` (JPEG, PNG, or whatever OpenCV decodes) as (H, W, 3) uint8 RGB.

    An orientation stored in the file is ignored: pixels are those of the sensor, as in camera_info.
    Raises ConversionError when there are no bytes or they cannot be decoded.
    """
    data = np.frombuffer(message.data, dtype=np.uint8)
    if data.size == 0:
        raise ConversionError("empty compressed image", f"format '{message.format}', 0 bytes")
    if "compressedDepth" in message.format:
        raise ConversionError("compressed depth image", "the tracker needs the camera's colour or grey image topic")
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise ConversionError(
            "compressed image cannot be decoded",
            f"format '{message.format}', {data.size} bytes: damaged, cut short, or neither JPEG nor PNG",
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def to_rgb(message: Image | CompressedImage) -> RgbImage:
    """Either kind of image message as (H, W, 3) uint8 RGB."""
    return image_to_rgb(message) if isinstance(message, Image) else compressed_to_rgb(message)


def _check_size(message: Image) -> None:
    if message.width == 0 or message.height == 0 or len(message.data) == 0:
        raise ConversionError("empty image", f"{message.width}x{message.height}, {len(message.data)} bytes")
    if max(message.width, message.height) > _MAX_SIDE:
        raise ConversionError("image too large", f"{message.width}x{message.height}, at most {_MAX_SIDE} pixels a side")


def _advice(encoding: str) -> str:
    if encoding.startswith(("16UC", "32FC")):
        return "this looks like a depth image; choose the camera's colour or grey image topic"
    return "supported are " + ", ".join(SUPPORTED_ENCODINGS)


def _rows(message: Image, rows: int, pixel_bytes: int) -> NDArray[np.uint8]:
    """The first ``rows`` rows without their padding, (rows, width * pixel_bytes); a view of the message's memory."""
    row_bytes = message.width * pixel_bytes
    if message.step < row_bytes:
        raise ConversionError(
            "step is shorter than a row",
            f"step {message.step}, but {message.width} pixels of {message.encoding} take {row_bytes} bytes",
        )
    data = np.frombuffer(message.data, dtype=np.uint8)
    needed = (rows - 1) * message.step + row_bytes  # the last row may come without padding
    if data.size < needed:
        raise ConversionError(
            "image data is cut short",
            f"{message.width}x{message.height} {message.encoding} with step {message.step} needs {needed} bytes, "
            f"got {data.size}",
        )
    return np.ndarray((rows, row_bytes), np.uint8, data, strides=(message.step, 1))


def _shape(rows: NDArray[np.uint8], height: int, width: int, form: _Format, big_endian: bool) -> Pixels:
    """Bytes of rows as (H, W) or (H, W, channels) numbers of native byte order."""
    shape = (height, width) if form.channels == 1 else (height, width, form.channels)
    rows = np.ascontiguousarray(rows)
    if form.depth == 1:
        return rows.reshape(shape)
    numbers = rows.view(">u2" if big_endian else "<u2")
    return numbers.astype(np.uint16, copy=False).reshape(shape)


def _planar_to_rgb(message: Image) -> RgbImage:
    height, width = message.height, message.width
    if height % 2 or width % 2:
        raise ConversionError(f"{message.encoding} image of odd size", f"{width}x{height}; four pixels share a colour")
    planes = np.ascontiguousarray(_rows(message, height * 3 // 2, 1))
    return np.asarray(cv2.cvtColor(planes, _PLANAR[message.encoding]), dtype=np.uint8)
