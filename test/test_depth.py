"""Depth at points and their places in space, against cases worked out by hand."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from taptrv2_core.camera_model import CalibrationError, CameraModel
from taptrv2_core.depth import DepthImage, depth_at, points_in_space
from taptrv2_core.encodings import CompressedImage, ConversionError, RawImage

MATRIX = np.array([[500.0, 0, 319.5], [0, 400.0, 239.5], [0, 0, 1]])
SIZE = (480, 640)


def flat(metres: float = 2.0) -> np.ndarray:
    return np.full(SIZE, round(1000 * metres), dtype=np.uint16)


def at(values: np.ndarray, x: float, y: float) -> float:
    metres = 0.001 if values.dtype == np.uint16 else 1.0
    return float(depth_at(DepthImage(values, metres), [(x, y)])[0])


def test_a_pinhole_camera_by_hand() -> None:
    camera = CameraModel(SIZE, MATRIX)
    xy = [(319.5, 239.5), (569.5, 239.5), (319.5, 39.5)]
    np.testing.assert_allclose(
        points_in_space(camera, xy, [2.0, 2.0, 3.0]), [(0, 0, 2), (1, 0, 2), (0, -1.5, 3)], atol=1e-12
    )
    missing = points_in_space(camera, [*xy, (np.nan, 1.0)], [np.nan, 2.0, 3.0, 1.0])
    assert np.isnan(missing).all(axis=1).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", (-0.28, 0.07, 0.0002, 0.00002, 0.0)),
        ("plumb_bob", (0.16, -0.5, 0.001, -0.002)),
        ("rational_polynomial", (0.5, -2.6, 0.0006, -0.0002, 1.5, 0.38, -2.4, 1.4)),
        ("equidistant", (-0.013, 0.02, -0.012, 0.002)),
    ],
)
def test_distortion_is_undone(model: str, coefficients: tuple[float, ...]) -> None:
    """OpenCV bends points of a known place into the image; from pixel and depth the place comes back."""
    x, y = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-0.7, 0.7, 5))
    places = np.stack((x, y, 2 + 0.3 * x), axis=-1).reshape(-1, 3)
    zero = np.zeros(3)
    if model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(places[:, None], zero, zero, MATRIX, np.array(coefficients))
    else:
        pixels, _ = cv2.projectPoints(places[:, None], zero, zero, MATRIX, np.array(coefficients))
    camera = CameraModel(SIZE, MATRIX, model, coefficients)
    np.testing.assert_allclose(camera.project(places), pixels[:, 0], atol=1e-9)
    found = points_in_space(camera, pixels[:, 0], places[:, 2])
    np.testing.assert_allclose(found, places, atol=1e-4)
    plain = points_in_space(CameraModel(SIZE, MATRIX), pixels[:, 0], places[:, 2])
    assert np.abs(plain - places).max() > 0.005


def test_the_equidistant_model_by_hand() -> None:
    """Without coefficients it says: the distance from the centre is f times the angle. 45 degrees are pi/4."""
    camera = CameraModel(SIZE, np.diag([200.0, 200.0, 1.0]), "equidistant", (1e-12, 0, 0, 0))
    np.testing.assert_allclose(camera.rays([(200.0 * np.pi / 4, 0.0)]), [(1.0, 0.0)], atol=1e-6)


def test_a_pixel_the_lens_has_no_ray_for_gives_none() -> None:
    camera = CameraModel(SIZE, MATRIX, "plumb_bob", (-0.3, 0.0, 0.0, 0.0))  # turns back at a radius of 0.7
    rays = camera.rays([(319.5, 239.5), (5000.0, 239.5)])
    np.testing.assert_allclose(rays[0], 0, atol=1e-9)
    assert np.isnan(rays[1]).all()


@pytest.mark.parametrize(
    ("matrix", "model", "coefficients", "reason"),
    [
        (np.zeros((3, 3)), "", (), "not calibrated"),
        (MATRIX, "kannala", (0.1, 0, 0, 0), "'kannala' is not supported"),
        (MATRIX, "plumb_bob", (0.1, 0, 0), "4 or 5 coefficients, not 3"),
        (MATRIX, "plumb_bob", (float("nan"), 0, 0, 0), "not calibrated: its distortion is nan, 0, 0, 0"),
    ],
)
def test_unusable_calibration(matrix: np.ndarray, model: str, coefficients: tuple[float, ...], reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        CameraModel(SIZE, matrix, model, coefficients)


def test_an_unknown_model_without_coefficients_is_no_distortion() -> None:
    assert not CameraModel(SIZE, MATRIX, "Inverse Brown Conrady", (0.0,) * 5).distorted


def test_millimetres_and_metres() -> None:
    assert at(flat(1.5), 100, 50) == pytest.approx(1.5)
    assert at(np.full(SIZE, 1.25, dtype=np.float32), 100, 50) == pytest.approx(1.25)


def test_noise_is_taken_out_by_the_median() -> None:
    values = flat(2.0)
    values[50, 100] = 2040  # within the noise of a sensor at two metres
    values[48, 98] = 60000
    assert at(values, 100, 50) == pytest.approx(2.0)


def test_invalid_pixels() -> None:
    values = flat(2.0)
    values[50, 100] = 0
    assert at(values, 100, 50) == pytest.approx(2.0)  # a hole of one pixel
    values[48:53, 98:102] = 0
    assert np.isnan(at(values, 100, 50))  # 5 of 25 are left
    floats = np.full(SIZE, np.inf, dtype=np.float32)
    floats[:, 101:] = np.nan
    assert np.isnan(at(floats, 100, 50))


def test_beside_an_edge_the_points_own_surface_counts() -> None:
    values = flat(3.0)
    values[:, :101] = 1000  # columns 98 to 100 of a patch around 100 are near, 101 and 102 far
    assert at(values, 100, 50) == pytest.approx(1.0)
    assert at(values, 101, 50) == pytest.approx(3.0)


def test_a_pole_thinner_than_half_the_patch_gets_no_depth_of_what_is_behind() -> None:
    values = flat(3.0)
    values[:, 100] = 1000
    assert np.isnan(at(values, 100, 50))


def test_a_pixel_that_mixes_both_sides_of_an_edge_is_rejected() -> None:
    values = flat(3.0)
    values[:, :100] = 1000
    values[:, 100] = 1900  # a "flying pixel" between the two
    assert np.isnan(at(values, 100, 50))
    ramp = flat(3.0)
    ramp[:, 98:103] = [1000, 1500, 2000, 2500, 3000]
    assert np.isnan(at(ramp, 100, 50))


def test_a_hole_between_two_surfaces_is_rejected() -> None:
    values = flat(3.0)
    values[:, :100] = 1000
    values[50, 100] = 0
    assert np.isnan(at(values, 100, 50))


def test_slanted_surfaces_are_kept() -> None:
    values = np.tile(np.linspace(1000, 4000, SIZE[1]), (SIZE[0], 1)).round().astype(np.uint16)
    assert at(values, 320, 50) == pytest.approx(2.5, abs=0.02)


def test_at_the_border_and_outside() -> None:
    assert at(flat(2.0), -0.4, 479.4) == pytest.approx(2.0)
    assert np.isnan(at(flat(2.0), -0.6, 100))
    assert np.isnan(at(flat(2.0), 639.6, 100))
    assert np.isnan(at(flat(2.0), 1e30, -1e30))
    assert np.isnan(at(flat(2.0), float("nan"), 5))
    assert depth_at(DepthImage(flat()), np.zeros((0, 2))).shape == (0,)


def test_depth_of_another_size_shows_the_same() -> None:
    small = np.full((240, 320), 2.0, dtype=np.float32)
    small[:, 160:] = 1.0
    found = depth_at(DepthImage(small), [(300.0, 100.0), (340.0, 100.0), (639.4, 479.4)], image_size=SIZE)
    np.testing.assert_allclose(found, [2.0, 1.0, 1.0])


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize(("encoding", "kind", "unit"), [("16UC1", "u2", 0.001), ("32FC1", "f4", 1.0)])
def test_raw_depth_messages(encoding: str, kind: str, unit: float, big_endian: bool) -> None:
    values = np.arange(1, 13).reshape(3, 4) / (10 * unit)
    packed = values.astype((">" if big_endian else "<") + kind)
    padded = np.zeros((3, packed.itemsize * 4 + 8), dtype=np.uint8)
    padded[:, :-8] = packed.view(np.uint8)
    depth = RawImage(padded.reshape(-1), encoding, 3, 4, padded.shape[1], big_endian).depth()
    np.testing.assert_allclose(depth.values * depth.metres, values * unit, rtol=1e-6)
    assert depth.values.dtype == kind


def test_compressed_depth_messages() -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    png = cv2.imencode(".png", values)[1].tobytes()
    header = struct.pack("<iff", 0, 0.0, 0.0)
    depth = CompressedImage(np.frombuffer(header + png, np.uint8), "16UC1; compressedDepth png").depth()
    np.testing.assert_array_equal(depth.values, values)
    assert depth.metres == 0.001
    # By the packing's rule v = A / depth + B; A and B as image_transport sets them for 10 m and quanta of 100.
    a, b = 10_000.0, 1.0 - 10_000.0 / 10.0
    metres = np.array([[0.5, 1.0, 2.0, 8.0]])
    inverse = cv2.imencode(".png", (a / metres + b).round().astype(np.uint16))[1].tobytes()
    data = np.frombuffer(struct.pack("<iff", 0, a, b) + inverse, np.uint8)
    found = CompressedImage(data, "32FC1; compressedDepth").depth()
    np.testing.assert_allclose(found.values, metres, rtol=5e-3)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (RawImage(np.zeros(36, np.uint8), "rgb8", 3, 4, 12), "encoding 'rgb8' is no depth"),
        (RawImage(np.zeros(20, np.uint8), "16UC1", 3, 4, 8), "image data is cut short"),
        (RawImage(np.zeros(0, np.uint8), "16UC1", 3, 4, 8), "empty image"),
        (CompressedImage(np.zeros(100, np.uint8), "jpeg"), "format 'jpeg' is no depth"),
        (CompressedImage(np.zeros(100, np.uint8), "16UC1; compressedDepth rvl"), "is no depth"),
        (CompressedImage(np.zeros(100, np.uint8), "16UC1; compressedDepth png"), "cannot be decoded"),
        (CompressedImage(np.zeros(0, np.uint8), "16UC1; compressedDepth png"), "cannot be decoded"),
    ],
)
def test_depth_that_cannot_be_read(image: RawImage | CompressedImage, problem: str) -> None:
    with pytest.raises(ConversionError, match=problem):
        image.depth()
