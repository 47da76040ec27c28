"""Image data in the encodings of ROS's messages to RGB arrays, without ROS and without cv_bridge, which knows fewer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.depth import DepthImage

RgbImage: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""
Pixels: TypeAlias = NDArray[Any]
_MAX_SIDE = 32767  # OpenCV's own limit in most of its colour conversions


class ConversionError(ValueError):
    """An image that cannot be converted.

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

_ENDS = {"JPEG": (b"\xff\xd8", b"\xff\xd9"), "PNG": (b"\x89PNG", b"IEND\xaeB`\x82")}
"""How files of these kinds begin, and what is at their end, before bytes that may pad them."""

_PROGRESSIVE = b"\xff\xc2"  # a JPEG's mark
_FILLING = 128  # grey that libjpeg gives pixels it has no data of
# Anything but grey once decoded, also after restart marks; data may end with the zeros.
_SCRIBBLE = b"\0\0" + b"".join(8 * b"\x55\xaa\x33\x0f" + bytes([0xFF, 0xD0 + i % 8]) for i in range(24))

_TO_RGB = int(getattr(cv2, "IMREAD_COLOR_RGB", 0))  # decoders' own order of colours, since OpenCV 4.11

_DEPTH: dict[str, tuple[type[np.generic], float]] = {
    "16UC1": (np.uint16, 0.001),
    "mono16": (np.uint16, 0.001),
    "32FC1": (np.float32, 1.0),
}
"""Number type of a depth encoding, and what one unit is in metres (REP 118)."""
_DEPTH_HEADER = struct.Struct("<iff")  # kind of compression, and two numbers that undo the packing of 32FC1


def bytes_per_pixel(encoding: str) -> int:
    """Bytes of a pixel; 0 in an encoding that is not supported, or whose pixels are spread over planes."""
    form = _FORMATS.get(encoding)
    return form.channels * form.depth if form else 0


@dataclass(frozen=True)
class RawImage:
    """An image as ``sensor_msgs/Image`` holds it."""

    data: NDArray[np.uint8]
    """Its bytes, one dimension."""
    encoding: str
    height: int
    width: int
    step: int
    """Bytes of a row, padding included."""
    big_endian: bool = False

    @property
    def plain(self) -> bool:
        """Whether `rgb` takes it, its pixels are one after another without padding, and it is not big-endian."""
        row = self.width * bytes_per_pixel(self.encoding)
        whole = self.step == row and 0 < row * self.height <= self.data.size
        odd = self.encoding in _SHARED_COLOUR and self.width % 2
        return whole and not odd and not self.big_endian and max(self.width, self.height) <= _MAX_SIDE

    def rgb(self) -> RgbImage:
        """(H, W, 3) uint8 RGB; may share the memory of ``data``, so do not write into it.

        16-bit images are scaled to 8 bits (65535 becomes 255). Rows may be padded, 16-bit data big-endian.
        Raises ConversionError: unknown encoding, no pixels, too few bytes, or a ``step`` shorter than a row.
        """
        _check_size(self)
        if self.encoding in _PLANAR:
            return _planar_to_rgb(self)
        if self.encoding not in _FORMATS:
            raise ConversionError(f"encoding '{self.encoding}' is not supported", _advice(self.encoding))
        form = _FORMATS[self.encoding]
        if self.encoding in _SHARED_COLOUR and self.width % 2:
            raise ConversionError(f"{self.encoding} image of odd width", f"{self.width} pixels; two share their colour")
        pixels = _shape(_rows(self, self.height, form.channels * form.depth), self, form)
        rgb: Pixels = form.to_rgb(pixels)
        if form.depth == 2:
            rgb = cv2.convertScaleAbs(rgb, alpha=255.0 / 65535.0)
        return np.ascontiguousarray(rgb, dtype=np.uint8)

    def depth(self) -> DepthImage:
        """Depth: 16UC1 (also named mono16) in millimetres, or 32FC1 in metres; may share the memory of ``data``.

        Raises ConversionError: another encoding, no pixels, too few bytes, or a ``step`` shorter than a row.
        """
        _check_size(self)
        if self.encoding not in _DEPTH:
            raise ConversionError(f"encoding '{self.encoding}' is no depth", "expected 16UC1 or 32FC1")
        kind, metres = _DEPTH[self.encoding]
        rows = np.ascontiguousarray(_rows(self, self.height, np.dtype(kind).itemsize))
        values = rows.view(np.dtype(kind).newbyteorder(">" if self.big_endian else "<"))
        return DepthImage(values.astype(kind, copy=False), metres)


@dataclass(frozen=True)
class CompressedImage:
    """An image as ``sensor_msgs/CompressedImage`` holds it: JPEG, PNG, or whatever OpenCV decodes."""

    data: NDArray[np.uint8]
    """The bytes of the file, one dimension."""
    format: str

    def rgb(self) -> RgbImage:
        """(H, W, 3) uint8 RGB.

        An orientation stored in the file is ignored: pixels are those of the sensor, as in camera_info.
        Raises ConversionError when there are no bytes or they cannot be decoded.
        """
        if self.data.size == 0:
            raise ConversionError("empty compressed image", f"format '{self.format}', 0 bytes")
        if "compressedDepth" in self.format:
            raise ConversionError("compressed depth image", "the tracker needs the camera's colour or grey image topic")
        file, image = self.data.tobytes(), None
        cut = next((kind for kind, (start, end) in _ENDS.items() if file.startswith(start) and end not in file), None)
        if cut is None:  # else an OpenCV before 5 may make an image of it, and libpng complains on stderr
            image = _decode(file)
        elif cut == "JPEG":
            image = _decode_unended(file)
        if image is None and cut:
            raise ConversionError(f"{cut} is cut short", f"format '{self.format}', {len(file)} bytes")
        if image is None:
            raise ConversionError(
                "compressed image cannot be decoded",
                f"format '{self.format}', {self.data.size} bytes: damaged, cut short, or neither JPEG nor PNG",
            )
        return image

    def depth(self) -> DepthImage:
        """Depth as image_transport's ``compressedDepth`` packs it: a header, then a PNG of 16 bits.

        Raises ConversionError when it is not that, is compressed as RVL, or cannot be decoded.
        """
        encoding = self.format.split(";")[0].strip()
        if "compressedDepth" not in self.format or encoding not in _DEPTH or "rvl" in self.format.lower():
            raise ConversionError(
                f"compressed image of format '{self.format}' is no depth",
                "expected 16UC1 or 32FC1 with '; compressedDepth png'; RVL is not read",
            )
        try:
            values = cv2.imdecode(self.data[_DEPTH_HEADER.size :], cv2.IMREAD_UNCHANGED)
        except cv2.error:
            values = None
        if values is None or values.dtype != np.uint16 or values.ndim != 2:
            raise ConversionError("compressed depth cannot be decoded", f"{self.data.size} bytes: damaged or cut short")
        if encoding == "32FC1":  # in steps of inverse depth, as the header says; 0 is missing
            _, a, b = _DEPTH_HEADER.unpack(self.data[: _DEPTH_HEADER.size].tobytes())
            with np.errstate(divide="ignore", invalid="ignore"):
                metres = np.where(values > 0, a / (values.astype(np.float32) - b), np.nan)
            return DepthImage(metres.astype(np.float32))
        return DepthImage(np.asarray(values), _DEPTH[encoding][1])


JPEG_FORMAT = "rgb8; jpeg compressed bgr8"
"""``format`` of a ``sensor_msgs/CompressedImage`` with such a file, as image_transport writes it."""


def encode_jpeg(image: RgbImage, quality: int) -> bytes:
    """An (H, W, 3) RGB image as a JPEG file; ``quality`` in [0, 100]."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _check_size(image: RawImage) -> None:
    if image.width == 0 or image.height == 0 or image.data.size == 0:
        raise ConversionError("empty image", f"{image.width}x{image.height}, {image.data.size} bytes")
    if max(image.width, image.height) > _MAX_SIDE:
        raise ConversionError("image too large", f"{image.width}x{image.height}, at most {_MAX_SIDE} pixels a side")


def _decode(file: bytes) -> RgbImage | None:
    """(H, W, 3) RGB, or None."""
    flags = (_TO_RGB or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(file, dtype=np.uint8), flags)
    except cv2.error:
        return None
    if image is None:
        return None
    return np.asarray(image if _TO_RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode_unended(file: bytes) -> RgbImage | None:
    """A JPEG without the mark of its end, which some cameras leave out; None if part of the image is missing too.

    libjpeg makes that grey, down to the last pixel. Where an image is so by itself, what comes after its data changes
    nothing.
    """
    end, file = _ENDS["JPEG"][1], file.rstrip(b"\0")
    file += b"\0" if file.endswith(b"\xff") else b""  # as data have it
    image = None if _PROGRESSIVE in file else _decode(file + end)  # of that, a part of the data shows the whole image
    if image is not None and (image[-1, -1] == _FILLING).all():
        other = _decode(file + _SCRIBBLE + end)
        return image if other is not None and np.array_equal(image, other) else None
    return image


def _advice(encoding: str) -> str:
    if encoding.startswith(("16UC", "32FC")):
        return "this looks like a depth image; choose the camera's colour or grey image topic"
    return "supported are " + ", ".join(SUPPORTED_ENCODINGS)


def _rows(image: RawImage, rows: int, pixel_bytes: int) -> NDArray[np.uint8]:
    """The first ``rows`` rows without their padding, (rows, width * pixel_bytes); a view of the image's memory."""
    row_bytes = image.width * pixel_bytes
    if image.step < row_bytes:
        raise ConversionError(
            "step is shorter than a row",
            f"step {image.step}, but {image.width} pixels of {image.encoding} take {row_bytes} bytes",
        )
    needed = (rows - 1) * image.step + row_bytes  # the last row may come without padding
    if image.data.size < needed:
        raise ConversionError(
            "image data is cut short",
            f"{image.width}x{image.height} {image.encoding} with step {image.step} needs {needed} bytes, "
            f"got {image.data.size}",
        )
    return np.ndarray((rows, row_bytes), np.uint8, image.data, strides=(image.step, 1))


def _shape(rows: NDArray[np.uint8], image: RawImage, form: _Format) -> Pixels:
    """Bytes of rows as (H, W) or (H, W, channels) numbers of native byte order."""
    size = (image.height, image.width)
    shape = size if form.channels == 1 else (*size, form.channels)
    rows = np.ascontiguousarray(rows)
    if form.depth == 1:
        return rows.reshape(shape)
    numbers = rows.view(">u2" if image.big_endian else "<u2")
    return numbers.astype(np.uint16, copy=False).reshape(shape)


def _planar_to_rgb(image: RawImage) -> RgbImage:
    height, width = image.height, image.width
    if height % 2 or width % 2:
        raise ConversionError(f"{image.encoding} image of odd size", f"{width}x{height}; four pixels share a colour")
    planes = np.ascontiguousarray(_rows(image, height * 3 // 2, 1))
    return np.asarray(cv2.cvtColor(planes, _PLANAR[image.encoding]), dtype=np.uint8)
