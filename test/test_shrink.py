"""The reduction of images by the op against OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from taptrv2_core.images import network_input, reduced
from taptrv2_core.ops import active_backend, use_backend

SIZES = [  # height and width before and after
    ((480, 640), (256, 256)),
    ((720, 1280), (256, 256)),
    ((1080, 1920), (512, 512)),
    ((481, 257), (256, 256)),
    ((300, 512), (256, 256)),  # a whole multiple in one direction
    ((33, 35), (32, 32)),
    ((37, 53), (5, 7)),
    ((9, 5), (9, 3)),
    ((5, 9), (1, 2)),
]
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_same_as_opencv(before: tuple[int, int], after: tuple[int, int]) -> None:
    """But for sums that are halves but for rounding, which may go either way."""
    image = picture(*before)
    expected = torch.from_numpy(cv2.resize(image, after[::-1], interpolation=cv2.INTER_AREA)).permute(2, 0, 1) / 255
    got = torch.ops.taptrv2.shrink(torch.from_numpy(image), *after).permute(2, 0, 1)
    differ = (got - expected).abs() > 0
    assert differ.float().mean() < 0.01
    assert (got - expected).abs().max() < 1.01 / 255


def test_camera_images_are_the_same_to_the_bit() -> None:
    """There are no halves at the usual sizes."""
    for before, after in SIZES[:3]:
        image = picture(*before)
        with use_backend("reference"):
            expected = network_input(image, after, CPU)
        assert torch.equal(network_input(image, after, CPU), expected)


def test_what_optical_flow_sees_is_the_same() -> None:
    """But for halves, as above."""
    image = picture(480, 854)
    expected = cv2.resize(image, (640, 360), interpolation=cv2.INTER_AREA)
    with use_backend("reference"):
        assert np.array_equal(reduced(image, (360, 640)), expected)
    difference = reduced(image, (360, 640)).astype(int) - expected
    assert (difference != 0).mean() < 0.001 and np.abs(difference).max() <= 1


def test_whole_multiples_are_left_to_opencv() -> None:
    """It rounds halves up there."""
    image = picture(512, 1024)
    expected = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)
    assert torch.equal(network_input(image, (256, 256), CPU), torch.from_numpy(expected).permute(2, 0, 1) / 255)


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.taptrv2.shrink.default, (torch.from_numpy(picture(9, 7)), 4, 5))


@pytest.mark.parametrize(
    ("image", "size", "message"),
    [
        (torch.zeros(4, 4, 3), (2, 2), "must be a contiguous CPU tensor"),
        (torch.zeros(4, 4, 4, dtype=torch.uint8), (2, 2), "must be a contiguous CPU tensor"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), (2, 5), "from 1 x 1 to the image's"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), (0, 2), "from 1 x 1 to the image's"),
    ],
)
def test_what_does_not_fit_is_refused(image: torch.Tensor, size: tuple[int, int], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        torch.ops.taptrv2.shrink(image, *size)


if __name__ == "__main__":  # by test_lesser_instructions.py
    torch.set_num_threads(1)
    test_camera_images_are_the_same_to_the_bit()
    for each in SIZES:
        test_same_as_opencv(*each)
