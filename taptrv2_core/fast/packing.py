"""Weights in the layout of the ops that take whole layers: one flat float32 tensor, parts padded to `PANEL`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from taptrv2_core.ops.backend import active_backend

PANEL = 32
"""Outputs of a layer that lie together in a packed weight; also the channels of a head the ops are made for."""
MOST_SAMPLES = 64
"""Of a head: levels times points."""
MOST_PARAMETERS = 2**18
"""Of an op that takes blocks of tokens through all of its weights: a mebibyte, which stays in the processor's cache.
The published network's layers have five times as many and gain nothing."""


def fits(op: str, sample_shape: tuple[int, int, int], feedforward: nn.Linear) -> bool:
    """Whether an op of whole layers is built and made for these sizes: sample_shape (M, L, P), feedforward's inputs (C)
    and outputs."""
    heads, levels, points = sample_shape
    return (
        feedforward.weight.device.type == "cpu"
        and feedforward.in_features == heads * PANEL
        and feedforward.out_features % PANEL == 0
        and levels * points <= MOST_SAMPLES
        and heads * levels * points % PANEL == 0
        and active_backend("cpu") == "fused"
        and hasattr(torch.ops.taptrv2, op)
    )


def chain(layers: Iterable[nn.Module], pairs: bool = False) -> Iterator[Tensor]:
    """The linear layers among these, one after another."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            yield from packed(layer.weight, layer.bias, pairs)


def norm(norm: nn.LayerNorm | nn.GroupNorm) -> Iterator[Tensor]:
    """Weight and bias of a normalisation."""
    yield padded(norm.weight)
    yield padded(norm.bias)


def packed(weight: Tensor, bias: Tensor, pairs: bool = False) -> Iterator[Tensor]:
    """Weight (outputs, inputs) and bias of a linear layer; ``pairs``: of inputs in bfloat16, see `paired`."""
    yield paired(panels(weight)) if pairs else panels(weight)
    yield padded(bias)


def panels(weight: Tensor) -> Tensor:
    """(outputs, inputs) -> panels of (inputs, PANEL), zero beyond the last output; flat."""
    outputs, inputs = weight.shape
    padded = torch.zeros(-(-outputs // PANEL) * PANEL, inputs)
    padded[:outputs] = weight
    return padded.view(-1, PANEL, inputs).transpose(1, 2).reshape(-1)


def paired(panels: Tensor) -> Tensor:
    """Panels with two inputs of an output side by side in bfloat16, seen as half as many floats."""
    return panels.bfloat16().view(-1, 2, PANEL).transpose(1, 2).reshape(-1).view(torch.float32)


def padded(vector: Tensor) -> Tensor:
    """A vector with zeros up to a multiple of PANEL."""
    return torch.nn.functional.pad(vector.float(), (0, -len(vector) % PANEL))
