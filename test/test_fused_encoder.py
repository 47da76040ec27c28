"""The fused encoder layer against the one written in PyTorch."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from taptrv2_core import PUBLISHED, SMALL, Taptr
from taptrv2_core.fast.encoder import FusedEncoderLayer
from taptrv2_core.fast.processor import cpu_has_pairs
from taptrv2_core.ops import active_backend, use_backend

LEVELS = ((20, 13), (10, 7), (5, 4), (3, 2))
TOKENS = sum(height * width for height, width in LEVELS)

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def network() -> Taptr:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Taptr(SMALL).requires_grad_(False)
        for name, parameter in model.transformer.encoder.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "sampling_offsets" in name or "attention_weights" in name:
                parameter.normal_(std=0.1)
    return model.prepare()


def test_same_memory() -> None:
    """Also of several images at once."""
    model = network()
    encoder = model.transformer.encoder
    assert all(layer.derived is not None for layer in encoder.layers)
    g = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, TOKENS, SMALL.channels, generator=g)
    code, reference = model._token_positions(LEVELS)
    with torch.inference_mode():
        fused = encoder(tokens, code, reference, LEVELS)
        with use_backend("reference"):
            plain = encoder(tokens, code, reference, LEVELS)
    assert plain.std() > 0.1
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)
    assert (fused[0] - fused[1]).abs().max() > 0.1


def test_bfloat16_is_nearer_than_plain() -> None:
    """To the layer in float32 with the same weights, as it rounds less often than the one written in PyTorch."""
    half = network().prepare(torch.bfloat16)
    exact = copy.deepcopy(half).prepare(torch.float32)
    tokens = torch.randn(2, TOKENS, SMALL.channels, generator=torch.Generator().manual_seed(1)).bfloat16()
    code, reference = half._token_positions(LEVELS)
    layer, exact_layer = (model.transformer.encoder.layers[0] for model in (half, exact))
    with torch.inference_mode():
        got = FusedEncoderLayer(layer)(tokens, code, reference, LEVELS)
        with use_backend("reference"):
            plain = layer(tokens, code, reference, LEVELS)
            expected = exact_layer(tokens.float(), code.float(), reference, LEVELS)
    assert got.dtype == torch.bfloat16
    error, plain_error = (float((t.float() - expected).norm() / expected.norm()) for t in (got, plain))
    assert error < 3e-3
    assert error < 0.7 * plain_error


def test_where_it_is_used() -> None:
    def layers(model: Taptr) -> list[bool]:
        return [layer.derived is not None for layer in model.transformer.encoder.layers]

    assert layers(network()) == [True]
    assert layers(network().train()) == [False]
    assert layers(network().prepare(torch.bfloat16)) == [cpu_has_pairs()]
    assert layers(Taptr(replace(PUBLISHED, backbone="compact")).prepare()) == [False, False]


def test_opcheck() -> None:
    fused = network().transformer.encoder.layers[0].derived
    assert fused is not None
    tokens, code, reference = torch.randn(2, 12, 128), torch.randn(12, 128), torch.rand(12, 2)
    shapes = [2, 4, 1, 2, 1, 1, 1, 1]
    torch.library.opcheck(
        torch.ops.taptrv2.encode_layer.default, (tokens, code, reference, shapes, fused.parameters, fused.sizes)
    )


def test_what_does_not_fit_is_refused() -> None:
    fused = network().transformer.encoder.layers[0].derived
    assert fused is not None
    tokens, code, reference = torch.zeros(1, 6, 128), torch.zeros(6, 128), torch.zeros(6, 2)
    with pytest.raises(RuntimeError, match=r"tokens must be a contiguous CPU tensor \[1, 13, 128\]"):
        torch.ops.taptrv2.encode_layer(tokens, code, reference, [3, 4, 1, 1], fused.parameters, fused.sizes)
    with pytest.raises(RuntimeError, match="parameters too many"):  # those of four levels
        torch.ops.taptrv2.encode_layer(tokens, code, reference, [1, 2, 2, 2], fused.parameters, fused.sizes)


if __name__ == "__main__":  # by test_lesser_instructions.py
    torch.set_num_threads(1)
    test_same_memory()
    test_bfloat16_is_nearer_than_plain()
