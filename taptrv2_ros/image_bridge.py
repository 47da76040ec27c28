"""Raw images to RGB by cv_bridge, where it is installed and able; by the project's own conversion otherwise.

Able is a cv_bridge that lives through a conversion (one built for NumPy 1 ends the process under NumPy 2: a child
process tries it), in the encodings in which it gives the very pixels of ``taptrv2_core.encodings``, so that results do
not depend on what is installed. Never handed over is what one version or another gets wrong: padded rows (ROS 1's takes
the padding for pixels), big-endian data, data cut short.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core.encodings import bytes_per_pixel
from taptrv2_ros.conversions import SUPPORTED_ENCODINGS, RgbImage, image_to_rgb, raw_image, to_rgb
from taptrv2_ros.session import Logger

_PROBE = """
import cv_bridge
from sensor_msgs.msg import Image
cv_bridge.CvBridge().imgmsg_to_cv2(Image(height=2, width=2, step=6, encoding="bgr8", data=bytes(12)), "rgb8")
"""
_PROBE_TIME = 30.0  # seconds
_SIDE = 64  # pixels of the images in which the two conversions are compared


@dataclass(frozen=True)
class Bridge:
    """cv_bridge's conversion, and the encodings it is to be used for."""

    convert: Callable[[Image, str], RgbImage]
    """``CvBridge.imgmsg_to_cv2``: an image and the name of the encoding to convert to."""
    encodings: frozenset[str]


class ImageConverter:
    """Image messages to (H, W, 3) uint8 RGB, which may share the message's memory. Not thread-safe."""

    def __init__(self, bridge: Bridge | None, logger: Logger) -> None:
        self._bridge = bridge
        self._logger = logger

    def __call__(self, message: Image | CompressedImage) -> RgbImage:
        """Raises ConversionError as ``conversions.to_rgb`` does. If cv_bridge raises, it is given up with a warning."""
        bridge = self._bridge
        if bridge and isinstance(message, Image) and message.encoding in bridge.encodings and raw_image(message).plain:
            try:
                return bridge.convert(message, "rgb8")
            except Exception as error:
                self._bridge = None
                self._logger.warning(f"cv_bridge failed, images are converted by the node itself from now on: {error}")
        return to_rgb(message)


@functools.cache
def find_bridge() -> tuple[Bridge | None, str]:
    """cv_bridge where it is able, and what to say about it; tried once, for a fraction of a second."""
    if importlib.util.find_spec("cv_bridge") is None:
        return None, "cv_bridge is not installed"
    fault = _fault()
    if fault:
        return None, f"cv_bridge cannot be used: {fault}"
    from cv_bridge import CvBridge

    convert = CvBridge().imgmsg_to_cv2
    # rgb8 needs no conversion, and cv_bridge would copy it.
    encodings = [name for name in SUPPORTED_ENCODINGS if name != "rgb8" and _agrees(convert, name)]
    return Bridge(convert, frozenset(encodings)), f"cv_bridge for {', '.join(encodings)}"


def _fault() -> str:
    """Why cv_bridge converts nothing; empty where it does."""
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIME)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    last = (probe.stderr.strip().splitlines() or [""])[-1]
    return f"exit status {probe.returncode} {last}".strip() if probe.returncode else ""


def _agrees(convert: Callable[[Image, str], RgbImage], encoding: str) -> bool:
    step = _SIDE * bytes_per_pixel(encoding)
    noise = np.random.default_rng(0).integers(0, 256, _SIDE * step).astype(np.uint8)
    image = Image(height=_SIDE, width=_SIDE, step=step, encoding=encoding, data=array("B", noise.tobytes()))
    try:
        return step > 0 and np.array_equal(convert(image, "rgb8"), image_to_rgb(image))
    except Exception:  # an encoding it does not know; each version raises something else
        return False
