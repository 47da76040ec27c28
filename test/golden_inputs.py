"""Weights, videos and queries of the golden cases: functions of names, shapes and seeds alone."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def tensor(name: str, shape: list[int]) -> NDArray[np.float32]:
    """Value of one tensor of the published state dict; tensors under two names are made from the shorter one."""
    for head in ("bbox_embed", "class_embed"):
        name = name.replace(f"transformer.decoder.{head}", head)
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = 1 + 0.2 * np.abs(noise)
    elif leaf == "running_mean":
        value = 0.1 * noise
    elif name.endswith("sampling_offsets.bias"):
        value = 2 * noise
    elif len(shape) <= 1 and leaf == "weight":
        value = (0.5 if "backbone" in name else 1.0) * (1 + 0.1 * noise)
    elif len(shape) <= 1:
        value = 0.05 * noise
    elif name == "transformer.level_embed":
        value = noise
    else:
        value = _gain(name) * noise / np.float32(np.prod(shape[1:])) ** np.float32(0.5)
    return np.asarray(value, dtype=np.float32)


def _gain(name: str) -> float:
    if "backbone" in name:
        return 2.0**0.5
    if name.startswith("bbox_embed.") and name.endswith("layers.2.weight"):
        return 0.08
    return 0.3 if name.endswith("sampling_offsets.weight") else 1.0


def video(frames: int, height: int, width: int, seed: int) -> NDArray[np.float32]:
    """(T, 3, H, W) RGB in [0, 1]: a sum of 24 drifting coloured waves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    time = np.arange(frames)[:, None, None]
    total = np.zeros((frames, 3, height, width))
    for _ in range(24):
        fx, fy = rng.uniform(-0.35, 0.35, 2)
        vx, vy = rng.uniform(-1.5, 1.5, 2)
        phase, colour = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1, 3)
        wave = np.sin(fx * (x - vx * time) + fy * (y - vy * time) + phase)
        total += colour[:, None, None] * wave[:, None]
    total -= total.min()
    return (total / total.max()).astype(np.float32)


def queries(count: int, frames: int, last_start: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Start frames (N,) and positions (N, 2) x, y in [0, 1]."""
    rng = np.random.default_rng(seed + 1)
    start = rng.integers(0, min(last_start, frames - 1) + 1, count)
    start[0] = 0
    return start, rng.uniform(0.08, 0.92, (count, 2)).astype(np.float32)
