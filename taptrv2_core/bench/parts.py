"""Where the time of a step goes, seen from the borders between its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from taptrv2_core.bench.timing import synchronise
from taptrv2_core.fast import cuda_graphs
from taptrv2_core.model import Taptr

PARTS = ("image", "backbone", "tokens", "encoder", "keys and values", "window", "output")
"""Check and resize, residual network, input projections, encoder, projection of keys and values with the state's
bookkeeping, decoder, commit and copy to the host."""


def part_medians(model: Taptr, step: Callable[[], object], calls: int) -> dict[str, float]:
    """Median milliseconds of each part over some steps; none where steps are graphs, which have no borders inside."""
    if cuda_graphs.usable(model.device):
        return {}
    rows = []
    with _marks(model) as marks:
        for _ in range(calls):
            marks.clear()
            synchronise(model.device)
            marks.append(time.perf_counter())
            step()
            synchronise(model.device)
            marks.append(time.perf_counter())
            rows.append(np.diff(marks))
    return {part: 1e3 * float(value) for part, value in zip(PARTS, np.median(rows, axis=0), strict=True)}


@contextmanager
def _marks(model: Taptr) -> Iterator[list[float]]:
    """The times at which backbone, encoder and decoder start and end."""
    marks: list[float] = []

    def mark(*_: Any) -> None:
        synchronise(model.device)
        marks.append(time.perf_counter())

    backbone: nn.Module = model.backbone[0] if model.derived is None else model.derived.backbone
    handles: list[Any] = []
    for module in (backbone, model.transformer.encoder, model.transformer.decoder):
        handles += [module.register_forward_pre_hook(mark), module.register_forward_hook(mark)]
    try:
        yield marks
    finally:
        for handle in handles:
            handle.remove()
