"""Images converted by cv_bridge, where it is installed and able, are those the node converts by itself."""

from __future__ import annotations

import importlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2")
from sensor_msgs.msg import Image

from taptrv2_core.encodings import bytes_per_pixel
from taptrv2_ros.conversions import SUPPORTED_ENCODINGS, ConversionError, image_to_rgb
from taptrv2_ros.image_bridge import Bridge, ImageConverter, find_bridge

HEIGHT, WIDTH = 46, 62
# What every cv_bridge converts to the same pixels, as far as is known; the rest depends on its version.
KNOWN = {
    "bgr8", "rgba8", "bgra8", "mono8", "yuv422", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8",
}  # fmt: skip
PACKED = [name for name in SUPPORTED_ENCODINGS if bytes_per_pixel(name)]


class Log:
    """Warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def info(self, message: str) -> None:
        """Not looked at."""

    error = info

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def image(encoding: str, width: int = WIDTH, padding: int = 0, **fields: int) -> Image:
    """Noise."""
    step = width * bytes_per_pixel(encoding) + padding
    noise = np.random.default_rng(1).integers(0, 256, HEIGHT * step).astype(np.uint8)
    result = Image(encoding=encoding, height=HEIGHT, width=width, step=step, **fields)
    result.data = array("B", noise.tobytes())
    return result


class Counting:
    """Counts the images that are handed over to cv_bridge, or to a stand-in that refuses all."""

    def __init__(self, bridge: Bridge | None, encodings: frozenset[str]) -> None:
        self._bridge = bridge
        self.images = 0
        self.log = Log()
        self.converter = ImageConverter(Bridge(self._convert, encodings), self.log)

    def _convert(self, message: Image, encoding: str) -> Any:
        self.images += 1
        if self._bridge is None:
            raise RuntimeError("no such conversion")
        return self._bridge.convert(message, encoding)


@pytest.fixture(scope="module")
def bridge() -> Bridge:
    found, text = find_bridge()
    if found is None:
        pytest.skip(text)
    return found


@pytest.fixture
def bridged(bridge: Bridge) -> Counting:
    return Counting(bridge, bridge.encodings)


@pytest.fixture
def afresh() -> Iterator[None]:
    """cv_bridge is looked for anew, in the test and after it."""
    find_bridge.cache_clear()
    yield
    find_bridge.cache_clear()


def test_the_encodings_that_every_cv_bridge_knows_are_handed_over(bridge: Bridge) -> None:
    assert bridge.encodings >= KNOWN
    assert "rgb8" not in bridge.encodings  # nothing is to be done for it


@pytest.mark.parametrize("width", [WIDTH, 9, 1])
@pytest.mark.parametrize("encoding", PACKED)
def test_the_same_pixels(bridged: Counting, bridge: Bridge, encoding: str, width: int) -> None:
    message = image(encoding, width)
    try:
        own = image_to_rgb(message)
    except ConversionError:  # two pixels that share their colour, and an odd one
        with pytest.raises(ConversionError, match="odd"):
            bridged.converter(message)
        return
    rgb = bridged.converter(message)
    assert bridged.images == (encoding in bridge.encodings)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, own)


@pytest.mark.parametrize("fields", [{"padding": 1}, {"padding": 12}, {"is_bigendian": 1}])
@pytest.mark.parametrize("encoding", sorted(KNOWN))
def test_what_cv_bridge_may_get_wrong_is_not_handed_over(
    bridged: Counting, encoding: str, fields: dict[str, int]
) -> None:
    message = image(encoding, **fields)
    np.testing.assert_array_equal(bridged.converter(message), image_to_rgb(message))
    assert bridged.images == 0


@pytest.mark.parametrize(("fields", "problem"), [({"width": 0}, "empty"), ({"step": 1}, "step"), ({"cut": 1}, "cut")])
@pytest.mark.parametrize("encoding", sorted(KNOWN))
def test_faulty_images_are_refused_in_the_same_words(
    bridged: Counting, encoding: str, fields: dict[str, int], problem: str
) -> None:
    message = image(encoding)
    message.width, message.step = fields.get("width", message.width), fields.get("step", message.step)
    del message.data[len(message.data) - fields.get("cut", 0) :]
    with pytest.raises(ConversionError, match=problem):
        bridged.converter(message)
    assert bridged.images == 0
    assert bridged.log.warnings == []


def test_an_encoding_that_cv_bridge_does_not_know(bridge: Bridge) -> None:
    unknown = Counting(bridge, frozenset({"8UC3"}))  # no colour to it, since it does not say in which order
    np.testing.assert_array_equal(unknown.converter(image("8UC3")), image_to_rgb(image("8UC3")))
    assert "8UC3" not in bridge.encodings
    assert len(unknown.log.warnings) == 1


def test_when_it_raises_the_node_converts_and_warns_once() -> None:
    failing = Counting(None, frozenset({"bgr8", "mono8"}))
    for encoding in ("bgr8", "bgr8", "mono8"):
        np.testing.assert_array_equal(failing.converter(image(encoding)), image_to_rgb(image(encoding)))
    assert failing.images == 1
    [warning] = failing.log.warnings
    assert "no such conversion" in warning


@pytest.mark.parametrize("code", ["import os; os.abort()", "raise ImportError('of another NumPy')", ""])
def test_a_cv_bridge_that_is_not_able(afresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    (tmp_path / "cv_bridge.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    found, text = find_bridge()
    assert found is None
    assert text.startswith("cv_bridge cannot be used: exit status")


def test_without_cv_bridge_nothing_is_tried(afresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("cv_bridge"):
        pytest.skip("cv_bridge is installed")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a process was started"))
    assert find_bridge() == (None, "cv_bridge is not installed")
    converter = ImageConverter(None, Log())
    np.testing.assert_array_equal(converter(image("bgr8")), image_to_rgb(image("bgr8")))
