"""The fused input projections against those written in PyTorch."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from taptrv2_core import PUBLISHED, SMALL, Taptr
from taptrv2_core.fast.processor import cpu_has_pairs
from taptrv2_core.fast.projection import FusedProjection
from taptrv2_core.ops import active_backend, use_backend

SHAPES = ((20, 13), (10, 7), (5, 4), (1, 1))
TOKENS = sum(height * width for height, width in SHAPES)

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def network() -> Taptr:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Taptr(replace(SMALL, decoder_layers=1)).requires_grad_(False)
        for parameter in model.input_proj.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.prepare()


def features(model: Taptr) -> list[Tensor]:
    """Of two images; their mean is far from zero, as it is after a ReLU."""
    g = torch.Generator().manual_seed(1)
    channels = model.backbone[0].body.channels
    levels = [torch.rand(2, c, *shape, generator=g) for c, shape in zip(channels, SHAPES, strict=True)]
    return [level.to(model.dtype).contiguous(memory_format=torch.channels_last) for level in levels]


def test_same_tokens() -> None:
    model = network()
    levels = features(model)
    with torch.inference_mode():
        fused = model._project_levels(levels)
        with use_backend("reference"):
            plain = model._project_levels(levels)
    assert fused.shape == (2, TOKENS, SMALL.channels)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=2e-5)
    assert (fused[0] - fused[1]).abs().max() > 0.1


def test_bfloat16_is_nearer_than_plain() -> None:
    """To float32 with the same weights."""
    half = network().prepare(torch.bfloat16)
    exact = copy.deepcopy(half).prepare(torch.float32)
    levels = features(half)
    with torch.inference_mode(), use_backend("reference"):
        plain = half._project_levels(levels)
        expected = exact._project_levels([level.float() for level in levels])
    with torch.inference_mode():
        got = FusedProjection(half.input_proj)(levels)
    assert got.dtype == torch.bfloat16
    error, plain_error = (float((t.float() - expected).norm() / expected.norm()) for t in (got, plain))
    assert error < 2.5e-3
    assert error < 0.7 * plain_error


def test_where_it_is_used() -> None:
    def used(model: Taptr) -> bool:
        return model.derived is not None and model.derived.projection is not None

    assert used(network())
    assert not used(network().train())
    assert used(network().prepare(torch.bfloat16)) == cpu_has_pairs()
    assert not used(network().prepare(torch.float64))
    assert not used(Taptr(replace(PUBLISHED, decoder_layers=1)).prepare())


def test_opcheck() -> None:
    model = network()
    assert model.derived is not None
    fused = model.derived.projection
    assert fused is not None
    given = (features(model), fused.channels, fused.groups, fused.parameters)
    torch.library.opcheck(torch.ops.taptrv2.project_levels.default, given)


def test_what_does_not_fit_is_refused() -> None:
    model = network()
    assert model.derived is not None
    fused = model.derived.projection
    assert fused is not None
    levels = features(model)
    with pytest.raises(RuntimeError, match=r"a level must be a CPU tensor .* of Float with channels last"):
        torch.ops.taptrv2.project_levels([levels[0].contiguous()], 128, 32, fused.parameters)
    with pytest.raises(RuntimeError, match="parameters too many"):
        torch.ops.taptrv2.project_levels(levels[:3], 128, 32, fused.parameters)
    with pytest.raises(RuntimeError, match="channels must be a multiple of 32 and of the groups"):
        torch.ops.taptrv2.project_levels(levels, 128, 24, fused.parameters)


if __name__ == "__main__":  # by test_lesser_instructions.py
    torch.set_num_threads(1)
    test_same_tokens()
    test_bfloat16_is_nearer_than_plain()
