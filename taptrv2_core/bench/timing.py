"""How long something takes: repeated calls, medians and percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

LEAST_CALLS = 3
PERCENTILES = (50, 90, 99)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeat(call: Callable[[], object], calls: int, seconds: float, device: torch.device) -> list[float]:
    """Milliseconds of each call: ``calls`` of them, fewer (at least three) where they would take over ``seconds``."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < calls and (len(times) < LEAST_CALLS or time.perf_counter() - begin < seconds):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, mean and least of milliseconds."""
    values = {f"p{p}": float(np.percentile(times, p)) for p in PERCENTILES}
    return {**values, "mean": float(np.mean(times)), "least": float(min(times))}
