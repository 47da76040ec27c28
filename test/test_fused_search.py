"""The fused search against the one written in PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from taptrv2_core import SMALL
from taptrv2_core.ops import active_backend, use_backend
from taptrv2_core.search import LEAST, Asked, Search

SHAPES = ((21, 16), (11, 8), (5, 4), (1, 1))
QUERIES = 37
OPS = ("agreement", "find")

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def given(dtype: torch.dtype = torch.float32, count: int = QUERIES) -> tuple[Tensor, Asked, Tensor]:
    """Memory of a frame, queries that look for what is in two cells of it (every third for nothing), and positions: of
    the first, or anywhere, also at and beyond the image's borders."""
    g = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, sum(h * w for h, w in SHAPES), SMALL.channels, generator=g)
    (height, width), cells = SHAPES[0], torch.randint(0, SHAPES[0][0] * SHAPES[0][1], (count,), generator=g)
    cells[: count // 4] = torch.arange(count // 4)  # in a corner
    looked_for = (tokens[:, cells] + 0.9 * tokens[:, cells + 1]) * (torch.arange(count) % 3 > 0)[:, None] / 6
    queries = [looked_for if i == 0 else torch.randn(looked_for.shape, generator=g) / 20 for i in range(len(SHAPES))]
    nowhere = torch.randn(1, count, 1, generator=g) + 6
    position = torch.stack((cells % width / width, cells // width / height), dim=-1) + 0.5 / 32
    position[1::2] = 1.4 * torch.rand(position[1::2].shape, generator=g) - 0.2
    position[:3] = torch.tensor(((0.0, 0.0), (1.0, 1.0), (torch.nan, 0.5)))[:count]
    return tokens.to(dtype), Asked([query.to(dtype) for query in queries], nowhere), position[None]


def answers(search: Search, dtype: torch.dtype = torch.float32, count: int = QUERIES) -> list[Tensor]:
    tokens, asked, position = given(dtype, count)
    with torch.inference_mode():
        return [getattr(search, op)(tokens, SHAPES, asked, position) for op in OPS]


def plain_answers(search: Search, dtype: torch.dtype = torch.float32, count: int = QUERIES) -> list[Tensor]:
    with use_backend("reference"):
        return answers(search, dtype, count)


@pytest.fixture(scope="module")
def search() -> Search:
    return Search(SMALL).requires_grad_(False)


@pytest.mark.parametrize("count", [QUERIES, 64, 1])
def test_same_answers(search: Search, count: int) -> None:
    fused, plain = answers(search, count=count), plain_answers(search, count=count)
    torch.testing.assert_close(fused[0], plain[0], rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(fused[1], plain[1], rtol=1e-5, atol=2e-6, equal_nan=True)


def test_there_is_something_to_compare(search: Search) -> None:
    """Agreements of all sizes; some points are found, some left where they were."""
    position = given()[2]
    agreement, found = plain_answers(search)
    assert agreement.max() > math.log(0.5) and agreement.min() <= math.log(LEAST) + 1e-6
    moved = (found != position).any(-1)
    assert 5 < int(moved.sum()) < QUERIES - 5


def test_bfloat16_is_nearer_than_plain(search: Search) -> None:
    """To float32 with the same memory and queries."""
    tokens, asked, position = given(torch.bfloat16)
    exact = Asked([query.float() for query in asked.queries], asked.nowhere)
    with torch.inference_mode(), use_backend("reference"):
        expected = [getattr(search, op)(tokens.float(), SHAPES, exact, position) for op in OPS]
    fused, plain = answers(search, torch.bfloat16), plain_answers(search, torch.bfloat16)
    for got, other, right in zip(fused, plain, expected, strict=True):
        error, plain_error = (float((t - right).nan_to_num().norm()) for t in (got, other))
        assert error < 0.7 * plain_error > 1e-3


def test_same_bytes_whatever_the_threads(search: Search) -> None:
    threads = torch.get_num_threads()
    try:
        several = answers(search)
        torch.set_num_threads(1)
        one = answers(search)
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(several, one, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_gradients_need_plain_pytorch(search: Search) -> None:
    tokens, asked, position = given()
    tokens.requires_grad_(True)
    search.agreement(tokens, SHAPES, asked, position).sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().max() > 0


def op_arguments() -> tuple[object, ...]:
    tokens, asked, position = given()
    return tokens, [size for shape in SHAPES for size in shape], asked.queries, asked.nowhere, position


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.taptrv2.search_agreement.default, (*op_arguments(), LEAST))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")  # positions that are NaN stay NaN
    torch.library.opcheck(torch.ops.taptrv2.search_find.default, (*op_arguments(), 0.5, 2.0), test_utils=tests)


def test_what_does_not_fit_is_refused() -> None:
    tokens, shapes, queries, nowhere, position = op_arguments()
    op = torch.ops.taptrv2.search_agreement
    with pytest.raises(RuntimeError, match="search_agreement: tokens must be a contiguous CPU tensor"):
        op(tokens[:, :-1], shapes, queries, nowhere, position, LEAST)
    with pytest.raises(RuntimeError, match=r"level 0 has the shape \(-"):
        op(tokens, [-shapes[0], -shapes[1], *shapes[2:]], queries, nowhere, position, LEAST)
    with pytest.raises(RuntimeError, match="queries must be one tensor a level"):
        op(tokens, shapes, queries[:-1], nowhere, position, LEAST)
    with pytest.raises(RuntimeError, match="queries must be a contiguous CPU tensor"):
        op(tokens, shapes, [query[:, :-1] for query in queries], nowhere, position, LEAST)
    with pytest.raises(RuntimeError, match="position must be a contiguous CPU tensor"):
        op(tokens, shapes, queries, nowhere, position.double(), LEAST)


if __name__ == "__main__":  # by test_lesser_instructions.py
    torch.set_num_threads(1)
    module = Search(SMALL).requires_grad_(False)
    test_same_answers(module, QUERIES)
    test_bfloat16_is_nearer_than_plain(module)
