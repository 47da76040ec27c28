"""The op of optical flow against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from taptrv2_core.flow import FlowImage, follow
from taptrv2_core.ops import active_backend, use_backend

SIZES = ((120, 160), (101, 77), (33, 47), (22, 300))

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def images(size: tuple[int, int]) -> tuple[FlowImage, FlowImage]:
    """A texture that moves and turns, noise in the second; the right quarter is plain."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.uniform(0, 255, (40, 60, 3)).astype(np.float32), (400, 300), interpolation=cv2.INTER_CUBIC)
    pair = []
    for angle, noise in ((0, 0), (2, 6)):
        turn = cv2.getRotationMatrix2D((90, 70), angle, 1.02)
        image = cv2.warpAffine(texture, turn, size[::-1]) + rng.uniform(0, 1, (*size, 3)) * noise
        image[:, -size[1] // 4 :] = 90
        pair.append(FlowImage.of(image.clip(0, 255).astype(np.uint8), size))
    return pair[0], pair[1]


def points(size: tuple[int, int]) -> np.ndarray:
    """Inside the image, outside, far outside, and not a number."""
    xy = np.random.default_rng(1).uniform((-30, -30), (size[1] + 30, size[0] + 30), (300, 2))
    xy[:2] = (np.nan, 1), (1e9, -1e9)
    return xy.astype(np.float32)


def check(size: tuple[int, int]) -> None:
    """Steps end when they are short, on one side of a bound or the other: hence a hundredth of a pixel for a few."""
    before, after = images(size)
    xy = points(size)
    moved, missed = follow(before, after, xy)
    with use_backend("reference"):
        expected, expected_missed = follow(before, after, xy)
    found = np.isfinite(missed)
    np.testing.assert_array_equal(found, np.isfinite(expected_missed))
    assert 0.1 < found.mean() < 0.9
    difference = np.abs(moved - expected)[found]
    assert np.median(difference) < 1e-5
    assert difference.max() < 0.02
    np.testing.assert_allclose(missed[found], expected_missed[found], atol=0.03)


@pytest.mark.parametrize("size", SIZES)
def test_same_as_opencv(size: tuple[int, int]) -> None:
    check(size)


def test_same_bytes_whatever_the_threads() -> None:
    before, after = images(SIZES[0])
    xy = points(SIZES[0])
    threads = torch.get_num_threads()
    try:
        several = follow(before, after, xy)
        torch.set_num_threads(1)
        one = follow(before, after, xy)
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(several, one, strict=True):
        assert a.tobytes() == b.tobytes()


def test_small_images_are_left_to_opencv() -> None:
    before, after = (FlowImage.of(np.random.default_rng(0).integers(0, 255, (20, 31, 3), np.uint8), (20, 31)),) * 2
    moved, missed = follow(before, after, np.array([[12.0, 9.0]], np.float32))
    np.testing.assert_allclose(moved, [[12, 9]], atol=1e-3)
    assert "pyramid" not in vars(before) and missed[0] < 0.01


@pytest.mark.parametrize("size", [(120, 160), (33, 47)])
def test_opcheck(size: tuple[int, int]) -> None:
    before, after = images(size)
    xy = torch.from_numpy(points(size)[2:])
    torch.library.opcheck(torch.ops.taptrv2.flow_pyramid.default, (torch.from_numpy(before.grey),))
    torch.library.opcheck(torch.ops.taptrv2.flow.default, (before.pyramid, after.pyramid, *size, xy))


def test_what_does_not_fit_is_refused() -> None:
    before, after = images((64, 64))
    xy = torch.zeros(2, 2)
    with pytest.raises(RuntimeError, match="flow: before must be a contiguous CPU tensor"):
        torch.ops.taptrv2.flow(before.pyramid[1:], after.pyramid, 64, 64, xy)
    with pytest.raises(RuntimeError, match="flow: xy must be a contiguous CPU tensor"):
        torch.ops.taptrv2.flow(before.pyramid, after.pyramid, 64, 64, xy.double())
    with pytest.raises(RuntimeError, match="flow: sides of an image must be 22 to 1048576 pixels, got 21 x 64"):
        torch.ops.taptrv2.flow_pyramid(torch.zeros(21, 64, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="flow: sides of an image must be"):
        torch.ops.taptrv2.flow(before.pyramid, after.pyramid, 2**62, 2**62, xy)
    with pytest.raises(RuntimeError, match="flow_pyramid: image must be a contiguous CPU tensor"):
        torch.ops.taptrv2.flow_pyramid(torch.zeros(64, 64))


if __name__ == "__main__":  # by test_lesser_instructions.py
    torch.set_num_threads(1)
    for shape in SIZES:
        check(shape)
