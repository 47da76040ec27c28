"""ROS image messages to RGB arrays, and recorded images to ROS messages."""

from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from taptrv2_core import encodings
from taptrv2_core.depth import DepthImage
from taptrv2_core.encodings import SUPPORTED_ENCODINGS, ConversionError, RgbImage
from taptrv2_core.recordings import NANOSECONDS, Frame

__all__ = [
    "SUPPORTED_ENCODINGS",
    "ConversionError",
    "RgbImage",
    "compressed_to_rgb",
    "frame_message",
    "image_to_rgb",
    "raw_image",
    "rgb_message",
    "to_depth",
    "to_rgb",
]


def image_to_rgb(message: Image) -> RgbImage:
    """A ``sensor_msgs/Image`` as (H, W, 3) uint8 RGB; may share the message's memory, so do not write into it.

    Raises ConversionError as ``taptrv2_core.encodings.RawImage.rgb`` does.
    """
    return raw_image(message).rgb()


def compressed_to_rgb(message: CompressedImage) -> RgbImage:
    """A ``sensor_msgs/CompressedImage`` (JPEG, PNG, or whatever OpenCV decodes) as (H, W, 3) uint8 RGB.

    Raises ConversionError as ``taptrv2_core.encodings.CompressedImage.rgb`` does.
    """
    return _compressed(message).rgb()


def to_rgb(message: Image | CompressedImage) -> RgbImage:
    """Either kind of image message as (H, W, 3) uint8 RGB."""
    return image_to_rgb(message) if isinstance(message, Image) else compressed_to_rgb(message)


def rgb_message(image: RgbImage) -> Image:
    """An (H, W, 3) uint8 RGB image as a message without a header."""
    data = array("B", image.tobytes())  # one by one, as a list of numbers, takes milliseconds
    return Image(height=image.shape[0], width=image.shape[1], step=3 * image.shape[1], encoding="rgb8", data=data)


def frame_message(frame: Frame) -> Image | CompressedImage:
    """A recorded image as the message it was, or, of a video or folder, would have been."""
    image = frame.image
    stamp = Time(sec=frame.stamp // NANOSECONDS, nanosec=frame.stamp % NANOSECONDS)
    header = Header(stamp=stamp, frame_id=frame.frame_id)
    data = array("B", image.data.tobytes())  # one by one, as a list of numbers, takes milliseconds
    if isinstance(image, encodings.CompressedImage):
        return CompressedImage(header=header, format=image.format, data=data)
    return Image(
        header=header, height=image.height, width=image.width, encoding=image.encoding,
        is_bigendian=int(image.big_endian), step=image.step, data=data,
    )  # fmt: skip


def to_depth(message: Image | CompressedImage) -> DepthImage:
    """A depth image, raw or of image_transport's ``compressedDepth``.

    Raises ConversionError as the two ``depth`` of ``taptrv2_core.encodings`` do.
    """
    return raw_image(message).depth() if isinstance(message, Image) else _compressed(message).depth()


def raw_image(message: Image) -> encodings.RawImage:
    """The same image without ROS, in the message's memory."""
    data = np.frombuffer(message.data, dtype=np.uint8)
    size = (message.height, message.width)
    return encodings.RawImage(data, message.encoding, *size, message.step, bool(message.is_bigendian))


def _compressed(message: CompressedImage) -> encodings.CompressedImage:
    return encodings.CompressedImage(np.frombuffer(message.data, dtype=np.uint8), message.format)
