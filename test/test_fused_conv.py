"""The convolution by tiles against PyTorch's in float64."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core import SMALL, Taptr
from taptrv2_core.fast import conv
from taptrv2_core.fast.conv import TiledConv
from taptrv2_core.fast.prepared import PackedConv
from taptrv2_core.fast.processor import cpu_has_tiles
from taptrv2_core.ops import active_backend, use_backend

CASES = [(1, 64, 64, 16, 16), (2, 32, 96, 13, 22), (1, 96, 32, 3, 1), (1, 64, 64, 40, 36)]  # B, inputs, outputs, H, W
LAST = torch.channels_last

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def case(images: int, inputs: int, outputs: int, height: int, width: int) -> tuple[TiledConv, Tensor, Tensor]:
    """A convolution, images, and what is to be added to its result."""
    g = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1).requires_grad_(False)
    for parameter in conv.parameters():
        parameter.normal_(generator=g)
    x = torch.randn(images, inputs, height, width, generator=g).contiguous(memory_format=LAST)
    add = torch.randn(images, outputs, height, width, generator=g).contiguous(memory_format=LAST)
    return TiledConv(conv), x, add


def plain(conv: nn.Conv2d, x: Tensor) -> Tensor:
    assert conv.bias is not None
    return F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)


@pytest.mark.parametrize("sizes", CASES)
def test_same_result(sizes: tuple[int, int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-6 of its norm, where oneDNN has 4e-7; with ReLU and sum, and without."""
    monkeypatch.setattr(conv, "FEWEST_TILES", 1)
    compare(sizes)


def compare(sizes: tuple[int, int, int, int, int]) -> None:
    tiled, x, add = case(*sizes)
    expected = plain(tiled.conv, x)
    for got, wanted in (
        (tiled(x), expected),
        (tiled(x, relu=True), expected.relu()),
        (tiled(x, add=add), expected + add),
        (tiled(x, relu=True, add=add), (expected + add).relu()),
    ):
        assert got.is_contiguous(memory_format=LAST)
        assert (got - wanted).norm() / wanted.norm() < 1e-6


@pytest.mark.parametrize("sizes", CASES[:2])
def test_bfloat16_is_rounded_at_the_end_only(sizes: tuple[int, int, int, int, int]) -> None:
    tiled, x, add = (part.bfloat16() for part in case(*sizes))
    with_float = TiledConv(copy.deepcopy(tiled.conv).float())
    got = tiled(x, relu=True, add=add)
    expected = with_float(x.float(), relu=True, add=add.float())
    assert got.is_contiguous(memory_format=LAST)
    assert torch.equal(got, expected.bfloat16())


def test_layout_of_the_input_does_not_matter() -> None:
    tiled, x, add = case(*CASES[1])
    expected = tiled(x, add=add)
    assert torch.equal(tiled(x.contiguous(), add=add.contiguous()), expected)


def test_number_of_threads_does_not_matter() -> None:
    tiled, x, _ = case(*CASES[3])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = tiled(x)
        torch.set_num_threads(1)
        one = tiled(x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(three, one)


def test_where_it_is_used() -> None:
    """In every second convolution of a block, and every first but those that halve the image."""
    conv = nn.Conv2d(32, 64, 3, padding=1)
    assert TiledConv.fits(conv)
    assert not TiledConv.fits(conv.double())
    for other in (
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.Conv2d(32, 64, 3),
        nn.Conv2d(32, 64, 3, padding=1, groups=2),
        nn.Conv2d(32, 48, 3, padding=1),
        nn.Conv2d(32, 512, 3, padding=1),
    ):
        assert not TiledConv.fits(other)
    model = Taptr(replace(SMALL, decoder_layers=1))
    half = 12 if torch.ops.mkldnn._is_mkldnn_bf16_supported() and not cpu_has_tiles() else 0
    for dtype, count in ((torch.float32, 12), (torch.bfloat16, half), (torch.float64, 0)):
        derived = copy.deepcopy(model).prepare(dtype).derived
        assert derived is not None
        assert sum(isinstance(module, TiledConv) for module in derived.backbone.modules()) == count


def test_small_images_go_to_onednn() -> None:
    tiled, x, _ = case(1, 32, 32, 15, 12)
    assert torch.equal(tiled(x), PackedConv(tiled.conv)(x))
    tiled, x, _ = case(1, 32, 32, 15, 13)
    assert not torch.equal(tiled(x), PackedConv(tiled.conv)(x))


def test_ops_can_be_switched_off() -> None:
    tiled, x, add = case(*CASES[0])
    with use_backend("reference"):
        off = tiled(x, relu=True, add=add)
    assert not torch.equal(off, tiled(x, relu=True, add=add))
    torch.testing.assert_close(off, tiled(x, relu=True, add=add), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adds", [False, True])
def test_opcheck(adds: bool) -> None:
    tiled, x, add = case(*CASES[1])
    tiled(x)
    arguments = (x, tiled.points, add if adds else None, tiled.conv.out_channels, True)
    torch.library.opcheck(torch.ops.taptrv2.convolve.default, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(1, 32, 4, 4)}, "images must be a CPU tensor"),
        ({"images": torch.zeros(1, 48, 4, 4)}, "multiples of 32"),
        ({"add": torch.zeros(1, 32, 4, 5)}, "add must be a CPU tensor"),
        ({"outputs": 64}, "weight must be a contiguous CPU tensor"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    images = torch.zeros(1, 32, 4, 4).contiguous(memory_format=LAST)
    given = {"images": images, "weight": torch.zeros(36 * 32 * 32 + 32), "add": None, "outputs": 32, "relu": False}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.taptrv2.convolve(*{**given, **change}.values())


if __name__ == "__main__":  # by test_lesser_instructions.py
    torch.set_num_threads(1)
    conv.FEWEST_TILES = 1
    for each in CASES:
        compare(each)
