"""The deformable encoder: feature levels in, a frame's memory out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from taptrv2_core.config import ModelConfig
from taptrv2_core.fast.encoder import FusedEncoderLayer
from taptrv2_core.fast.prepared import Linear, Prepared
from taptrv2_core.layers import init_sampling_offsets, modules
from taptrv2_core.ops import active_backend, multi_scale_deformable_attention_from_offsets
from taptrv2_core.ops.steps import add_norm

LevelShapes = Sequence[tuple[int, int]]


def sample_cells(level_shapes: LevelShapes, sample_shape: tuple[int, int, int], like: Tensor) -> Tensor:
    """(M, L, P, 2): width and height in cells of each sample's level, the divisor of sampling offsets.

    Of the offsets' own shape: broadcasting over the last two dimensions costs a CPU twenty times the division.
    """
    return _sample_cells(tuple(level_shapes), sample_shape, like.dtype, like.device)


@lru_cache(maxsize=64)
def _sample_cells(
    level_shapes: LevelShapes, sample_shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        cells = torch.tensor([(width, height) for height, width in level_shapes], dtype=dtype, device=device)
        return cells[:, None].expand(*sample_shape, 2).contiguous()


def cell_centres(level_shapes: LevelShapes, like: Tensor) -> Tensor:
    """(S, 2): x, y in [0, 1] of every cell's centre, levels one after another, row by row."""
    centres = []
    for height, width in level_shapes:
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
        grid = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((grid[1], grid[0]), dim=-1).flatten(0, 1))
    return torch.cat(centres)


class DeformableSelfAttention(nn.Module):
    """Multi-scale deformable attention of tokens over all levels of their own frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.sample_shape = (config.heads, config.levels, config.points)
        self.sampling_offsets = Linear(c, 2 * config.samples)
        self.attention_weights = Linear(c, config.samples)
        self.value_proj = Linear(c, c)
        self.output_proj = Linear(c, c)
        init_sampling_offsets(self.sampling_offsets, *self.sample_shape)
        nn.init.zeros_(self.attention_weights.weight)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, level_shapes: LevelShapes) -> Tensor:
        """tokens (B, S, C), position (S, C), reference (S, 2) in [0, 1] -> (B, S, C)."""
        query = tokens + position
        value = self.value_proj(tokens).unflatten(-1, (self.sample_shape[0], -1))
        offsets = self.sampling_offsets(query).unflatten(-1, (*self.sample_shape, 2))
        logits = self.attention_weights(query).unflatten(-1, self.sample_shape)
        sampled = multi_scale_deformable_attention_from_offsets(
            value, level_shapes, reference.unsqueeze(0), offsets, logits
        )
        return self.output_proj(sampled)  # type: ignore[no-any-return]


class EncoderLayer(Prepared):
    """Deformable attention, then a feed-forward, each with a residual and a LayerNorm."""

    derived: FusedEncoderLayer | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.self_attn = DeformableSelfAttention(config)
        self.norm1 = nn.LayerNorm(c)
        self.linear1 = Linear(c, config.encoder_feedforward)
        self.linear2 = Linear(config.encoder_feedforward, c)
        self.norm2 = nn.LayerNorm(c)

    def derive(self) -> None:
        """Pack the weights for the fused layer, where there is one."""
        self.derived = FusedEncoderLayer.of(self)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, level_shapes: LevelShapes) -> Tensor:
        if self.derived is not None and active_backend("cpu") == "fused":
            return self.derived(tokens, position, reference, level_shapes)
        tokens = add_norm(self.norm1, tokens, self.self_attn(tokens, position, reference, level_shapes))
        return add_norm(self.norm2, tokens, self.linear2(self.linear1(tokens, relu=True)))


class Encoder(nn.Module):
    """The stack of encoder layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = modules(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, level_shapes: LevelShapes) -> Tensor:
        """tokens (B, S, C), position code (S, C), reference (S, 2) x, y in [0, 1] -> memory (B, S, C)."""
        for layer in self.layers:
            tokens = layer(tokens, position, reference, level_shapes)
        return tokens
