"""Images of every supported encoding, encoded here by hand, come back as RGB; what cannot be converted is refused."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2")
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_ros.conversions import SUPPORTED_ENCODINGS, ConversionError, compressed_to_rgb, image_to_rgb

HEIGHT, WIDTH = 12, 16


def picture() -> np.ndarray:
    """RGB noise in blocks of 2 x 2 equal pixels: what shares colour among four pixels keeps it."""
    blocks = np.random.default_rng(0).integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3))
    return blocks.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)


def message(data: np.ndarray, encoding: str, step: int = 0, padding: int = 0, **fields: int) -> Image:
    """Rows of ``data`` as an image message, each followed by ``padding`` bytes that must not matter."""
    rows = np.ascontiguousarray(data).view(np.uint8).reshape(len(data), -1)
    padded = np.hstack((rows, np.full((len(rows), padding), 0xA5, np.uint8)))
    size = {"height": HEIGHT, "width": WIDTH, **fields}
    result = Image(encoding=encoding, step=step or padded.shape[1], **size)
    result.data = array("B", padded.tobytes())
    return result


def yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ITU-R BT.601, 8 bits, brightness 16 to 235."""
    r, g, b = rgb.astype(float).transpose(2, 0, 1)
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    u = 128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255
    v = 128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255
    return tuple(np.clip(np.round(c), 0, 255).astype(np.uint8) for c in (y, u, v))


def packed(rgb: np.ndarray, order: str) -> np.ndarray:
    """Two bytes a pixel: brightness of each, U and V of pixels in pairs, in the order of a pair's four bytes."""
    y, u, v = yuv(rgb)
    channels = {"y": iter((y[:, 0::2], y[:, 1::2])), "u": iter((u[:, 0::2],)), "v": iter((v[:, 0::2],))}
    return np.stack([next(channels[c]) for c in order], axis=-1).reshape(HEIGHT, -1)


def planar(rgb: np.ndarray, order: str) -> np.ndarray:
    """All brightness, then rows of U and V in turn, one pair for four pixels."""
    y, u, v = yuv(rgb)
    pair = {"u": u[::2, ::2], "v": v[::2, ::2]}
    return np.vstack((y, np.stack([pair[c] for c in order], axis=-1).reshape(HEIGHT // 2, WIDTH)))


def with_alpha(image: np.ndarray) -> np.ndarray:
    return np.dstack((image, np.full(image.shape[:2], 77, image.dtype)))


RGB = picture()
BGR = RGB[..., ::-1]
GREY = RGB[..., 1]
WIDE = RGB.astype(np.uint16) * 257
DEEP_GREY = np.repeat(GREY[..., None], 3, axis=2)
EXACT = {
    "rgb8": (RGB, RGB),
    "bgr8": (BGR, RGB),
    "8UC3": (BGR, RGB),
    "rgba8": (with_alpha(RGB), RGB),
    "bgra8": (with_alpha(BGR), RGB),
    "8UC4": (with_alpha(BGR), RGB),
    "mono8": (GREY, DEEP_GREY),
    "8UC1": (GREY, DEEP_GREY),
    "mono16": (WIDE[..., 1], DEEP_GREY),
    "rgb16": (WIDE, RGB),
    "bgr16": (WIDE[..., ::-1], RGB),
    "rgba16": (with_alpha(WIDE), RGB),
    "bgra16": (with_alpha(WIDE[..., ::-1]), RGB),
}
YUV = {
    "yuv422": packed(RGB, "uyvy"),
    "uyvy": packed(RGB, "uyvy"),
    "yuv422_yuy2": packed(RGB, "yuyv"),
    "yuyv": packed(RGB, "yuyv"),
    "nv12": planar(RGB, "uv"),
    "nv21": planar(RGB, "vu"),
}
BAYER = [name for name in SUPPORTED_ENCODINGS if name.startswith("bayer_")]


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", EXACT)
def test_exact_encodings(encoding: str, padding: int) -> None:
    data, expected = EXACT[encoding]
    rgb = image_to_rgb(message(data, encoding, padding=padding))
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize("encoding", [name for name in EXACT if name.endswith("16")])
def test_big_endian(encoding: str) -> None:
    data, expected = EXACT[encoding]
    image = message(data.astype(">u2"), encoding, padding=4, is_bigendian=1)
    np.testing.assert_array_equal(image_to_rgb(image), expected)


def test_sixteen_bits_are_scaled_not_cut() -> None:
    ramp = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    rgb = image_to_rgb(message(ramp, "mono16"))
    np.testing.assert_allclose(rgb[..., 0], ramp / 257.0, atol=0.51)


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("encoding", YUV)
def test_shared_colour(encoding: str, padding: int) -> None:
    rgb = image_to_rgb(message(YUV[encoding], encoding, padding=padding))
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    # Rounding to 8 bits of brightness and colour, then back: by a few steps. A wrong order is off by a hundred.
    assert np.abs(rgb.astype(int) - RGB).max() <= 4


@pytest.mark.parametrize("encoding", BAYER)
def test_bayer(encoding: str) -> None:
    colour = {"r": 200, "g": 120, "b": 30}
    pattern = encoding.removeprefix("bayer_")[:4]
    tile = np.array([colour[c] for c in pattern]).reshape(2, 2)
    mosaic = np.tile(tile, (HEIGHT // 2, WIDTH // 2))
    data = mosaic.astype(np.uint16) * 257 if encoding.endswith("16") else mosaic.astype(np.uint8)
    rgb = image_to_rgb(message(data, encoding))
    np.testing.assert_array_equal(rgb, np.broadcast_to((200, 120, 30), (HEIGHT, WIDTH, 3)))


def test_every_supported_encoding_is_tested() -> None:
    assert {*EXACT, *YUV, *BAYER} == set(SUPPORTED_ENCODINGS)


def test_last_row_may_lack_its_padding() -> None:
    image = message(RGB, "rgb8", padding=10)
    del image.data[-10:]
    np.testing.assert_array_equal(image_to_rgb(image), RGB)


@pytest.mark.parametrize(
    ("image", "problem", "detail"),
    [
        (message(RGB, "rgb9"), "encoding 'rgb9' is not supported", "mono8"),
        (message(WIDE[..., 0], "16UC1"), "encoding '16UC1' is not supported", "depth image"),
        (message(RGB[:-1], "rgb8"), "cut short", f"needs {HEIGHT * WIDTH * 3} bytes, got {(HEIGHT - 1) * WIDTH * 3}"),
        (message(RGB, "rgb8", step=3 * WIDTH - 1), "shorter than a row", "step 47"),
        (message(RGB, "rgba8", step=3 * WIDTH), "shorter than a row", "64 bytes"),
        (message(RGB, "rgb8", height=0), "empty image", "16x0"),
        (Image(encoding="rgb8", height=HEIGHT, width=WIDTH, step=3 * WIDTH), "empty image", "0 bytes"),
        (message(RGB, "rgb8", width=4_000_000_000, step=4_294_967_295), "too large", "4000000000"),
        (message(planar(RGB, "uv")[:-1], "nv12"), "cut short", "got"),
        (message(planar(RGB, "uv"), "nv12", height=HEIGHT - 1), "odd size", "16x11"),
        (message(packed(RGB, "uyvy"), "uyvy", width=WIDTH - 1), "odd width", "15"),
    ],
)  # fmt: skip
def test_faulty_images(image: Image, problem: str, detail: str) -> None:
    with pytest.raises(ConversionError) as caught:
        image_to_rgb(image)
    assert problem in caught.value.problem
    assert detail in str(caught.value)


def compressed(suffix: str, image_format: str = "") -> CompressedImage:
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(BGR))
    assert ok
    return CompressedImage(format=image_format or suffix[1:], data=array("B", data.tobytes()))


def test_png() -> None:
    np.testing.assert_array_equal(compressed_to_rgb(compressed(".png")), RGB)


def test_jpeg() -> None:
    smooth = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8), (0, 0), 8)
    _, data = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])
    rgb = compressed_to_rgb(CompressedImage(format="bgr8; jpeg compressed bgr8", data=array("B", data.tobytes())))
    assert np.abs(rgb[..., ::-1].astype(int) - smooth).max() <= 8


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_padding_behind_a_compressed_image_is_no_fault(suffix: str) -> None:
    padded = compressed(suffix)
    padded.data.extend(bytes(64))
    np.testing.assert_array_equal(compressed_to_rgb(padded), compressed_to_rgb(compressed(suffix)))


def jpeg(image: np.ndarray, *options: int) -> bytes:
    """A file without the mark of its end."""
    data = cv2.imencode(".jpg", image, list(options))[1].tobytes()
    assert data.endswith(b"\xff\xd9")
    return data[:-2]


NOISE = np.random.default_rng(2).integers(0, 256, (90, 121, 3)).astype(np.uint8)
GREY_CORNER = np.where(np.arange(121)[:, None] < 60, NOISE, np.uint8(128))
OPTIONS = [(), (cv2.IMWRITE_JPEG_RST_INTERVAL, 3), (cv2.IMWRITE_JPEG_OPTIMIZE, 1)]


@pytest.mark.parametrize("padding", [0, 100])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("image", [NOISE, NOISE[..., 0], GREY_CORNER])
def test_a_jpeg_that_lacks_only_the_mark_of_its_end(image: np.ndarray, options: tuple[int, ...], padding: int) -> None:
    unended = jpeg(image, *options)
    rgb, expected = (
        compressed_to_rgb(CompressedImage(format="jpeg", data=array("B", unended + rest)))
        for rest in (bytes(padding), b"\xff\xd9")
    )
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize("padding", [0, 100])
@pytest.mark.parametrize("options", [*OPTIONS, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
@pytest.mark.parametrize("image", [NOISE, NOISE[..., 0], GREY_CORNER])
def test_a_jpeg_that_lacks_rows_is_refused(image: np.ndarray, options: tuple[int, ...], padding: int) -> None:
    unended = jpeg(image, *options)
    for share in (0.01, 0.3, 0.6, 0.9):
        data = unended[: int(share * len(unended))] + bytes(padding)
        with pytest.raises(ConversionError, match="JPEG is cut short"):
            compressed_to_rgb(CompressedImage(format="jpeg", data=array("B", data)))


def test_grey_png_becomes_rgb() -> None:
    _, data = cv2.imencode(".png", GREY)
    rgb = compressed_to_rgb(CompressedImage(format="png", data=array("B", data.tobytes())))
    np.testing.assert_array_equal(rgb, DEEP_GREY)


@pytest.mark.parametrize(
    ("data", "image_format", "problem"),
    [
        (b"", "jpeg", "empty compressed image"),
        (b"not an image at all", "jpeg", "cannot be decoded"),
        (bytes(compressed(".png").data)[:20], "png", "PNG is cut short"),
        (bytes(compressed(".png").data)[:-1], "png", "PNG is cut short"),
        (bytes(compressed(".png").data), "16UC1; compressedDepth png", "compressed depth image"),
    ],
)
def test_faulty_compressed_images(data: bytes, image_format: str, problem: str) -> None:
    with pytest.raises(ConversionError) as caught:
        compressed_to_rgb(CompressedImage(format=image_format, data=array("B", data)))
    assert problem in caught.value.problem


def test_the_problem_is_the_same_for_images_cut_at_different_places() -> None:
    problems = set()
    for missing in (1, 50, 200):
        image = message(RGB, "rgb8")
        del image.data[-missing:]
        with pytest.raises(ConversionError) as caught:
            image_to_rgb(image)
        problems.add(caught.value.problem)
    assert len(problems) == 1
