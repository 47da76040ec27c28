"""The refiner's op against the refiner in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, tiny_model
from torch import Tensor

from taptrv2_core.flow import FlowImage
from taptrv2_core.geometry import UNIT
from taptrv2_core.motion import MotionPrior
from taptrv2_core.ops import active_backend, use_backend
from taptrv2_core.refine import Look, Refiner, patches

SIZES = ((120, 160), (101, 77), (33, 47), (9, 300), (2, 2))
COUNTS = (0, 1, 3, 64, 1000)

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def refiner() -> Refiner:
    """Random, with weights that make offsets of a pixel or two and spreads that differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Refiner().requires_grad_(False)
    for parameter in network.parameters():
        parameter.mul_(2)
    network.derive()
    assert network.derived is not None
    return network


def image(size: tuple[int, int]) -> np.ndarray:
    """A texture and some noise; the right quarter is plain."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.uniform(0, 255, (60, 60)), size[::-1], interpolation=cv2.INTER_CUBIC)
    texture[:, size[1] - size[1] // 4 :] = 90
    return (texture + rng.uniform(0, 4, size)).clip(0, 255).astype(np.uint8)


def case(network: Refiner, size: tuple[int, int], count: int) -> tuple[Look, Tensor, np.ndarray, Tensor]:
    """What `Refiner.align` takes: 20 queries, of which points some pixels away, inside, at borders and outside."""
    grey, g = image(size), torch.Generator().manual_seed(count)
    margin = 0.1 * max(size)
    queries = torch.rand(20, 2, generator=g) * (torch.tensor(size[::-1]) + 2 * margin) - margin
    queries[:2] = torch.tensor([[0, 0], [size[1] - 1, size[0] - 1]])
    rows = torch.randint(20, (count,), generator=g)
    xy = queries[rows] + torch.randn(count, 2, generator=g) * (2 * max(size) / UNIT)
    return network.look(patches(torch.from_numpy(grey)[None], queries[None])[0]), rows, grey, xy


def check(size: tuple[int, int], count: int = 300) -> None:
    """In the smallest images a pixel is many cells, so that a patch is all but plain and its rounding is seen."""
    network = refiner()
    given = case(network, size, count)
    offset, spread = network.align(*given)
    with use_backend("reference"):
        expected, expected_spread = network.align(*given)
    tolerance = 1e-4 if min(size) > 2 else 2e-3
    torch.testing.assert_close(offset, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(spread, expected_spread, rtol=0, atol=4 * tolerance)
    if min(size) > 9 and count > 3:
        assert expected.norm(dim=1).median() > 0.3 and expected_spread.std() > 0.1


@pytest.mark.parametrize("size", SIZES)
def test_same_in_any_image(size: tuple[int, int]) -> None:
    check(size)


@pytest.mark.parametrize("count", COUNTS)
def test_same_for_any_number(count: int) -> None:
    check(SIZES[0], count)


def test_same_bytes_whatever_the_threads() -> None:
    network = refiner()
    given = case(network, SIZES[0], 65)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = network.align(*given)
        torch.set_num_threads(1)
        one = network.align(*given)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_any_memory_layout() -> None:
    network = refiner()
    look, rows, grey, xy = case(network, SIZES[0], 8)
    wide = np.repeat(grey, 2, axis=1)[:, ::2]
    scattered = replace(look, features=look.features.contiguous(memory_format=torch.channels_last))
    assert not (wide.flags.c_contiguous or scattered.features.is_contiguous())
    expected = network.align(look, rows, grey, xy)
    for other in ((look, rows, wide, xy.t().contiguous().t()), (scattered, rows, grey, xy.double())):
        assert all(torch.equal(a, b) for a, b in zip(network.align(*other), expected, strict=True))


def test_looks_kept_and_joined() -> None:
    network = refiner()
    look, rows, grey, xy = case(network, SIZES[0], 8)
    again = look.kept(torch.tensor([4])).joined(look.kept(rows))
    here = torch.arange(8) + 1
    for got, expected in zip(network.align(again, here, grey, xy), network.align(look, rows, grey, xy), strict=True):
        assert torch.equal(got, expected)


def test_places_that_are_nowhere() -> None:
    """They count as at a border; what comes out is finite."""
    network = refiner()
    look, rows, grey, xy = case(network, SIZES[0], 4)
    xy[:3] = torch.tensor([[float("nan"), 1], [1e9, -1e9], [float("inf"), float("-inf")]])
    assert all(bool(part.isfinite().all()) for part in network.align(look, rows, grey, xy))


def test_predictions_are_the_same() -> None:
    """Of a texture that moves, by all of `MotionPrior`."""
    network, prediction = refiner(), []
    texture = image((160, 160))[:, :110]
    for derived in (network.derived, None):
        network.derived = derived
        prior = MotionPrior(network)
        for step in range(3):
            seen = np.repeat(texture[30 + step : 130 + step, 2 * step : 100 + 2 * step, None], 3, axis=2)
            begun = prior.enter(FlowImage.of(seen, (64, 64)))
            if step == 0:
                prior.add(torch.rand(12, 2, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2, age=0)
        prediction.append(begun)
    fused, plain = prediction
    assert (plain.gain < 1).sum() > 6
    torch.testing.assert_close(fused.position, plain.position, rtol=0, atol=1e-6)
    torch.testing.assert_close(fused.variance, plain.variance, rtol=1e-3, atol=0)


def test_where_it_is_used() -> None:
    model = tiny_model(config=replace(TINY, motion="flow", refine=True))
    assert model.refiner is not None and model.refiner.derived is None
    hosts = model.host_refiner(), model.prepare(torch.bfloat16).host_refiner()
    assert [host is not None and host.derived is not None for host in hosts] == [True, True]
    network = refiner()
    assert network.derived is not None and not network.derived.usable(image((1, 40)))
    assert network.train().derived is None
    with use_backend("reference"):
        network.derive()
        assert network.derived is None
    wide = Refiner(32)
    wide.derive()
    assert wide.derived is None


def test_opcheck() -> None:
    network = refiner()
    look, rows, grey, xy = case(network, SIZES[0], 3)
    assert network.derived is not None
    given = (torch.from_numpy(grey), xy, rows, look.features, look.weight, look.contrast, network.derived.parameters)
    torch.library.opcheck(torch.ops.taptrv2.refine.default, given)


def test_what_does_not_fit_is_refused() -> None:
    network = refiner()
    look, rows, grey, xy = case(network, SIZES[0], 3)
    assert network.derived is not None
    given = [torch.from_numpy(grey), xy, rows, look.features, look.weight, look.contrast, network.derived.parameters]
    wrong = {
        0: (given[0][:1], "image must be .* at least 2 x 2"),
        1: (xy.double(), "xy must be a contiguous CPU tensor"),
        2: (rows + 20, r"rows\[0\] is \d+, of 20"),
        3: (look.features[:, :8], "features must be a contiguous CPU tensor"),
        6: (given[6][32:], "too few parameters"),
    }
    for place, (tensor, message) in wrong.items():
        with pytest.raises(RuntimeError, match=f"refine: {message}"):
            torch.ops.taptrv2.refine(*given[:place], tensor, *given[place + 1 :])


if __name__ == "__main__":  # by test_lesser_instructions.py
    torch.set_num_threads(1)
    for shape in SIZES:
        check(shape)
