"""Inputs for the deformable attentions and their comparison with plain PyTorch in float64.

`python test/op_cases.py cuda` runs every comparison without pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from taptrv2_core import ops
from taptrv2_core.ops import reference

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclass(frozen=True)
class Case:
    """Sizes as in `taptrv2_core.ops`; positions lie in [0.5 - spread, 0.5 + spread]."""

    level_shapes: tuple[tuple[int, int], ...] = ((12, 16), (6, 8), (3, 4), (2, 2))
    heads: int = 4
    channels: int = 32
    points: int = 4
    batch: int = 2
    queries: int = 13
    spread: float = 0.6

    @property
    def tokens(self) -> int:
        return sum(height * width for height, width in self.level_shapes)


CASES = {
    "network": Case(),
    "published heads": Case(heads=8, batch=8, queries=33),
    "one level": Case(level_shapes=((9, 7),), points=1),
    "odd sizes": Case(level_shapes=((7, 3), (1, 5), (2, 1)), heads=3, channels=24, points=3, batch=3),
    "narrow heads": Case(heads=2, channels=8, points=2),
    "16 channels": Case(channels=16),
    "64 channels": Case(channels=64, heads=2),
    "odd channels": Case(channels=7, heads=5),
    "100 channels": Case(channels=100, heads=1),
    "single cell": Case(level_shapes=((1, 1),), heads=1, points=2),
    "64 samples": Case(level_shapes=((8, 8),) * 8, points=8, heads=2),
    "no queries": Case(queries=0),
    "one query": Case(queries=1, batch=1),
    "many queries": Case(queries=2500, batch=1, heads=2),
    "outside": Case(spread=3.0),
}


def positions(case: Case, dtype: torch.dtype, generator: torch.Generator, *extra: int) -> Tensor:
    shape = (case.batch, case.queries, *extra, 2)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5) * (2 * case.spread) + 0.5


def inputs(op: str, case: Case, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> list[Any]:
    """Arguments of the public function `op`; values, keys, queries, offsets and weights in `dtype`."""
    g = torch.Generator().manual_seed(seed)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    sampling = (case.heads, len(case.level_shapes), case.points)
    shape = (case.batch, case.queries, *sampling)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=g, dtype=torch.float64).to(dtype)

    if op.endswith("from_offsets"):
        where = [positions(case, exact, g).to(exact), normal(*shape, 2) * 2]
    else:
        where = [positions(case, exact, g, *sampling).to(exact)]
    if op.startswith("multi_scale"):
        arguments = [normal(case.batch, case.tokens, case.heads, case.channels), case.level_shapes, *where]
        arguments.append(normal(*shape))
    else:
        ring = case.batch + 1
        slots = torch.randint(0, ring, (case.batch,), generator=g)
        query = normal(case.batch, case.queries, case.heads, case.channels)
        key_value = normal(ring, case.tokens, case.heads, 2, case.channels)
        arguments = [query, key_value, case.level_shapes, *where, slots]
    return [a.to(device) if isinstance(a, Tensor) else a for a in arguments]


def stored_in(storage: torch.dtype, op: str, arguments: list[Any]) -> list[Any]:
    """The same with values, keys and queries in `storage`; positions and weights stay as they are."""
    stored = 2 if op.startswith("key_aware") else 1
    return [a.to(storage) for a in arguments[:stored]] + arguments[stored:]


OPS: dict[str, Callable[..., Any]] = {
    name: getattr(ops, name) for name in sorted(ops.__all__) if "deformable_attention" in name
}


def results(function: Callable[..., Any], arguments: list[Any], rounding: torch.dtype) -> list[Tensor]:
    """Outputs, then the gradients by every floating input of a random weighting of them, rounded to `rounding`."""
    leaves = [a.detach().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    output = function(*leaves)
    outputs = list(output) if isinstance(output, tuple) else [output]
    g = torch.Generator().manual_seed(1)
    noise = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(rounding) for o in outputs]
    upstream = [n.to(o.device, o.dtype) for n, o in zip(noise, outputs, strict=True)]
    wanted = [a for a in leaves if isinstance(a, Tensor) and a.requires_grad]
    return [*(o.detach() for o in outputs), *torch.autograd.grad(outputs, wanted, upstream)]


def error(ours: Tensor, exact: Tensor) -> float:
    """Norm of the difference over the norm; NaN counts as infinitely wrong."""
    difference = (ours.detach().cpu().double() - exact).norm() / exact.norm().clamp_min(1e-30)
    return float(difference.nan_to_num(float("inf"))) if exact.numel() else 0.0


def compare(op: str, case: Case, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> float:
    """Fused op on `device` against plain PyTorch in float64 on the same inputs; the largest error of all results."""
    arguments = inputs(op, case, dtype, device, seed)
    return compare_arguments(op, arguments)


def compare_arguments(op: str, arguments: list[Any]) -> float:
    dtype = arguments[0].dtype
    with ops.use_backend("fused"):
        ours = results(OPS[op], arguments, dtype)
    upcast = [a.cpu().double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    upcast = [a.cpu() if isinstance(a, Tensor) else a for a in upcast]
    exact = results(getattr(reference, op), upcast, dtype)
    for one, other in zip(ours, exact, strict=True):
        assert one.shape == other.shape, f"{op}: {one.shape} instead of {other.shape}"
    worst = max(error(one, other) for one, other in zip(ours, exact, strict=True))
    assert worst < TOLERANCE[dtype], f"{op}, {dtype}: relative error {worst:.2e}, allowed {TOLERANCE[dtype]:.0e}"
    return worst


def dtypes(device: str) -> list[torch.dtype]:
    half = [torch.float16] if device == "cuda" else []
    return [torch.float32, torch.bfloat16, torch.float64, *half]


def strided(arguments: list[Any]) -> Iterator[list[Any]]:
    """The same numbers in other memory layouts: one argument at a time not contiguous, then all."""
    for index, argument in enumerate(arguments):
        if isinstance(argument, Tensor) and argument.dim() > 1:
            yield [*arguments[:index], scattered(argument), *arguments[index + 1 :]]
    yield [scattered(a) if isinstance(a, Tensor) and a.dim() > 1 else a for a in arguments]


def scattered(tensor: Tensor) -> Tensor:
    """Equal to `tensor`, with its first two dimensions swapped in memory and gaps in the last."""
    wide = torch.full((*tensor.shape, 2), float("nan"), dtype=tensor.dtype, device=tensor.device)
    view = wide.transpose(0, 1).contiguous().transpose(0, 1)[..., 0]
    view.copy_(tensor)
    return view


def main(device: str) -> None:
    """Every case, op and dtype on `device`; prints the largest error for each dtype."""
    for dtype in dtypes(device):
        worst = 0.0
        for op in OPS:
            for case in CASES.values():
                worst = max(worst, compare(op, case, dtype, device))
            for arguments in strided(inputs(op, replace(Case(), queries=5), dtype, device)):
                worst = max(worst, compare_arguments(op, arguments))
        name = str(dtype).removeprefix("torch.")
        print(f"ops {device} {name:9s} {len(OPS) * len(CASES)} cases  relative error {worst:.1e}  ok")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
