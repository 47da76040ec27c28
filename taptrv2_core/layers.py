"""Small building blocks that encoder and decoder share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.fast.prepared import Linear, PackedLinear, Prepared
from taptrv2_core.ops.steps import attends_frames, frame_attention

Member = TypeVar("Member", bound=nn.Module)


def modules(members: Iterable[Member]) -> Sequence[Member]:
    """A module list that knows what it holds."""
    return cast(Sequence[Member], nn.ModuleList(members))


class Chain(nn.Sequential):
    """Linear layers, some with a ReLU behind them."""

    def forward(self, x: Tensor) -> Tensor:
        for layer, after in zip(self, [*self][1:] + [None], strict=True):
            if isinstance(layer, Linear):
                x = layer(x, relu=isinstance(after, nn.ReLU))
        return x


def mlp(*sizes: int) -> Chain:
    """Linear layers with ReLU between them, named 0, 2, 4, ..."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [Linear(inputs, outputs), nn.ReLU()]
    return Chain(*layers[:-1])


class MLP(nn.Module):
    """Linear layers with ReLU between them, named ``layers.0``, ``layers.1``, ..."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = modules(Linear(i, o) for i, o in pairwise(sizes))

    def start_at_zero(self) -> None:
        """Make the output zero, whatever the input, until training changes it."""
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x, relu=True)
        return self.layers[-1](x)  # type: ignore[no-any-return]


class MultiHeadAttention(Prepared):
    """Attention with the tensors of ``nn.MultiheadAttention``; query and key carry a position, the value does not."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def derive(self) -> None:
        """Pack the weights of query and key together, and of the value."""
        cut = 2 * self.in_proj_weight.shape[1]
        parts = [slice(None, cut), slice(cut, None)]
        packed = [PackedLinear.of(self.in_proj_weight[part], self.in_proj_bias[part]) for part in parts]
        self.derived = packed if all(packed) else None

    def forward(
        self, features: Tensor, position: Tensor, mask: Tensor | None, along: int, tracked: Tensor | None = None
    ) -> Tensor:
        """Attend along one of two dimensions.

        Args:
            features, position: (B, F, N, C).
            mask: bool, true where a row may attend a column, on a GPU also as what is added to the logits:
                (B, N, F, F) along 1, (B, F, N, N) along 2; None: everywhere.
            along: 1, a query's frames attend each other, or 2, a frame's queries do.
            tracked: (B, F, N) bool, what a mask along 1 was made of, if it was.

        Returns:
            (B, F, N, C).
        """
        if self.derived is None:
            channels = features.shape[-1]
            weight, bias = self.in_proj_weight, self.in_proj_bias
            query_key = F.linear(features + position, weight[: 2 * channels], bias[: 2 * channels])
            value = F.linear(features, weight[2 * channels :], bias[2 * channels :])
        else:
            query_key, value = self.derived[0](features + position), self.derived[1](features)
        if along == 1 and (mask is None or tracked is not None) and attends_frames(features, self.heads):
            chosen = None if tracked is None else tracked[0]
            return self.out_proj(frame_attention(query_key[0], value[0], chosen, self.heads).unsqueeze(0))  # type: ignore[no-any-return]
        # (B, other, M, attended, D) without a copy
        order = (0, 2, 3, 1, 4) if along == 1 else (0, 1, 3, 2, 4)
        heads = [t.unflatten(-1, (self.heads, -1)).permute(order) for t in (*query_key.chunk(2, dim=-1), value)]
        query, key, value = (t.flatten(0, 1) for t in heads)
        out = _attend(query, key, value, None if mask is None else mask.flatten(0, 1))
        out = out.unflatten(0, heads[0].shape[:2]).permute((0, 3, 1, 2, 4) if along == 1 else (0, 1, 3, 2, 4))
        return self.out_proj(out.flatten(-2))  # type: ignore[no-any-return]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of (b, M, n, D), mask (b, n, n)."""
    mask = None if mask is None else mask.unsqueeze(1)
    if query.is_cuda:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # On CPUs the fused attention is made for long sequences; two products take half its time for 8 frames.
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return logits.softmax(-1) @ value


def init_sampling_offsets(layer: nn.Linear, heads: int, levels: int, points: int) -> None:
    """Start with offsets that do not depend on the input: head m looks along direction m, point p at p + 1 cells.

    With one head fewer directions than points would be looked at, so directions also turn from point to point.
    """
    angle = 2 * torch.pi * torch.arange(heads).view(-1, 1, 1) / heads
    angle = angle + torch.pi / heads * (torch.arange(points).view(1, 1, -1) % 2)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    offsets = direction * torch.arange(1, points + 1).view(1, 1, -1, 1)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(offsets.expand(heads, levels, points, 2).reshape(-1))
