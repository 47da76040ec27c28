"""A network small enough for tests, with weights that make it move."""

from __future__ import annotations

from dataclasses import replace

import torch

from taptrv2_core import SMALL, ModelConfig, Taptr

TINY = replace(
    SMALL, name="tiny", input_size=(64, 64), channels=32, heads=2, decoder_layers=2,
    encoder_feedforward=64, decoder_feedforward=64, motion="none", search=False, refine=False,
)  # fmt: skip


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, config: ModelConfig = TINY) -> Taptr:
    """A tiny network with random weights; its box heads, zero in a fresh network, move points by some pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Taptr(config)
        for head in model.bbox_embed:
            torch.nn.init.normal_(head.layers[-1].weight, std=0.2)
    return model.requires_grad_(False).eval().to(dtype)
