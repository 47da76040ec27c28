"""Times the two deformable attentions, fused beside plain PyTorch, in one run on the same inputs.

    python tools/bench_ops.py cpu --threads 2
    python tools/bench_ops.py cuda --size 512 --points 64 256 1024

Times are milliseconds of one call, the smallest and the median of several runs after a warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))
from taptrv2_core import ops

CHANNELS, FRAMES = 32, 8
BACKENDS: tuple[Literal["reference"], Literal["fused"]] = ("reference", "fused")
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True)
class Job:
    """A call to time, and the bytes that its gathers read: 4 corners a sample, each once."""

    name: str
    function: Callable[..., Any]
    arguments: list[Any]
    gathered: int


def jobs(size: int, heads: int, dtype: torch.dtype, points: list[int], device: str) -> list[Job]:
    """The encoder's attention of one frame of `size` x `size` pixels and the decoder's of a window of 8 frames."""
    g = torch.Generator().manual_seed(0)
    shapes = [(size // stride, size // stride) for stride in (4, 8, 16, 32)]
    tokens = sum(height * width for height, width in shapes)
    sampling = (heads, 4, 4)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=g)

    centres = [
        torch.cartesian_prod((torch.arange(n) + 0.5) / n, (torch.arange(n) + 0.5) / n).flip(1) for n, _ in shapes
    ]
    value = normal(1, tokens, heads, CHANNELS).to(device, dtype)
    offsets = (normal(1, tokens, *sampling, 2) * 2).to(device, dtype)
    logits = normal(1, tokens, *sampling).to(device, dtype)
    corner = 4 * 16 * heads * CHANNELS * value.element_size()
    encoder = [value, shapes, torch.cat(centres)[None].to(device), offsets, logits]
    found = [Job("encoder", ops.multi_scale_deformable_attention_from_offsets, encoder, tokens * corner)]
    ring = normal(FRAMES, tokens, heads, 2, CHANNELS).to(device, dtype)
    for count in points:
        query = normal(FRAMES, count, heads, CHANNELS).to(device, dtype)
        where = torch.rand((FRAMES, count, 2), generator=g).to(device)
        moved = (normal(FRAMES, count, *sampling, 2) * 2).to(device, dtype)
        decoder = [query, ring, shapes, where, moved, torch.arange(FRAMES, device=device)]
        function = ops.key_aware_deformable_attention_from_offsets
        found.append(Job(f"decoder, {count} points", function, decoder, FRAMES * count * 2 * corner))
    return found


def forward(job: Job) -> Callable[[], Any]:
    def call() -> None:
        with torch.no_grad():
            job.function(*job.arguments)

    return call


def training(job: Job) -> Callable[[], Any]:
    """Forward and backward; the reference points need no gradient, as in the network."""

    def call() -> None:
        leaves = [
            a.detach().requires_grad_(a.shape[-1] != 2 or a.dim() == 6)
            if isinstance(a, Tensor) and a.is_floating_point()
            else a
            for a in job.arguments
        ]
        output = job.function(*leaves)
        outputs = output if isinstance(output, tuple) else (output,)
        torch.autograd.backward(outputs, [torch.ones_like(o) for o in outputs])

    return call


def times(call: Callable[[], Any], device: str, seconds: float) -> list[float]:
    """Milliseconds of single calls, for about `seconds`; on a GPU by events around each call."""
    call()
    call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 3 or (time.perf_counter() < end and len(found) < 500):
        if device == "cpu":
            start = time.perf_counter()
            call()
            found.append((time.perf_counter() - start) * 1e3)
        else:
            begin, finish = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            call()
            finish.record()
            finish.synchronize()
            found.append(begin.elapsed_time(finish))
    return found


def copy_bandwidth() -> float:
    """GB/s of a large copy on the GPU, read plus written: what the gathers are held against."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / min(times(lambda: target.copy_(source), "cuda", 0.5)) / 1e6


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """Twenty calls as one CUDA graph, so that the time of starting them does not count."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(20):
            call()
    return graph.replay


def report(job: Job, dtype: torch.dtype, heads: int, device: str, seconds: float, bandwidth: float) -> str:
    cells = []
    for label, make in (("forward", forward), ("training", training)):
        found: dict[str, list[float]] = {}
        for backend in BACKENDS:
            with ops.use_backend(backend):
                found[backend] = times(make(job), device, seconds)
        low = {name: min(values) for name, values in found.items()}
        middle = {name: statistics.median(values) for name, values in found.items()}
        cells.append(
            f"{label} {low['reference']:8.2f} ({middle['reference']:8.2f}) -> {low['fused']:7.3f} "
            f"({middle['fused']:7.3f}) {low['reference'] / low['fused']:6.1f}x"
        )
    if device == "cuda":
        with ops.use_backend("fused"):
            kernel = min(times(captured(forward(job)), device, seconds)) / 20
        speed = job.gathered / kernel / 1e6
        cells.append(f"kernel {kernel * 1e3:7.1f} us, gathers {speed:6.0f} GB/s, {speed / bandwidth:.0%} of a copy")
    return f"{NAMES[dtype]:9s} {heads} heads  {job.name:20s} " + "   ".join(cells)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time the deformable attentions, fused beside plain PyTorch.")
    parser.add_argument("device", choices=["cpu", "cuda"])
    parser.add_argument("--size", type=int, default=256, help="image side in pixels (default 256)")
    parser.add_argument("--heads", type=int, nargs="+", default=[4, 8], help="of 32 channels each (default 4 8)")
    parser.add_argument("--points", type=int, nargs="+", default=[64], help="tracked points (default 64)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--seconds", type=float, default=1.0, help="to spend on each figure (default 1)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU threads"
    print(f"{where}, torch {torch.__version__}, {args.size} x {args.size} pixels")
    print("ms: smallest (median), plain PyTorch -> fused; training = forward + backward")
    bandwidth = copy_bandwidth() if args.device == "cuda" else 0.0
    if bandwidth:
        print(f"copy: {bandwidth:.0f} GB/s")
    half = [torch.bfloat16] if args.device == "cpu" else [torch.float16, torch.bfloat16]
    for heads in args.heads:
        for dtype in [torch.float32, *half]:
            for job in jobs(args.size, heads, dtype, args.points, args.device):
                print(report(job, dtype, heads, args.device, args.seconds, bandwidth), flush=True)


if __name__ == "__main__":
    main()
