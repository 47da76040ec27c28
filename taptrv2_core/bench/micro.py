"""The two ops alone, fused beside plain PyTorch, at the sizes of a network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch

from taptrv2_core import ops
from taptrv2_core.bench.timing import repeat, summary
from taptrv2_core.config import ModelConfig
from taptrv2_core.ops import use_backend

STRIDES = (4, 8, 16, 32)
PLACES = 16
SPREAD = 2.0
"""Standard deviation of the sampling offsets, in cells."""


def op_rows(
    config: ModelConfig, count: int, backends: list[str], dtypes: list[str], device: torch.device, calls: int
) -> list[dict[str, Any]]:
    """One row an op, dtype and backend: milliseconds of a call for one frame, or for a window of ``count`` points."""
    rows = []
    for dtype in dtypes:
        for name, call in _calls(config, count, getattr(torch, dtype), device).items():
            for backend in backends:
                with use_backend(backend), torch.inference_mode():  # type: ignore[arg-type]
                    for _ in range(3):
                        call()
                    times = repeat(call, calls, 10.0, device)
                rows.append({"op": name, "dtype": dtype, "ops": backend, "calls": len(times), **summary(times)})
    return rows


def _calls(
    config: ModelConfig, count: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], object]]:
    height, width = config.input_size
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES[: config.levels]]
    tokens = sum(h * w for h, w in shapes)
    samples = (config.heads, config.levels, config.points)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, kind: torch.dtype = dtype) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, kind)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator).to(device)

    value = normal(1, tokens, config.heads, config.head_channels)
    everywhere, logits = uniform(1, tokens, 2), normal(1, tokens, *samples)
    encoder_offsets = SPREAD * normal(1, tokens, *samples, 2)
    query = normal(config.window, count, config.heads, config.head_channels)
    ring = normal(config.window, tokens, config.heads, 2, config.head_channels)
    # Other places at each call: a frame's keys and values are not in the cache when the decoder comes to them.
    places = cycle(
        [(uniform(config.window, count, 2), SPREAD * normal(config.window, count, *samples, 2)) for _ in range(PLACES)]
    )
    slots = torch.arange(config.window, device=device)
    return {
        "encoder, one frame": lambda: ops.multi_scale_deformable_attention_from_offsets(
            value, shapes, everywhere, encoder_offsets, logits
        ),
        f"decoder, {config.window} frames x {count} points": lambda: ops.key_aware_deformable_attention_from_offsets(
            query, ring, shapes, *next(places), slots
        ),
    }
