"""The checks of whole steps that gpu_check.py runs, each in a process of its own: golden, parity, soak.

    python tools/gpu_steps.py golden|parity|soak cuda|cpu

On a CPU everything is small: there it is these lines themselves that are checked. Needs torch and numpy only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "test"
sys.path[:0] = [str(ROOT), str(TESTS)]

from taptrv2_core import PUBLISHED, ModelConfig, Taptr, Tracker, track_video  # noqa: E402
from taptrv2_core.bench.frames import moving_texture, points  # noqa: E402
from taptrv2_core.bench.machine import peak_memory_mib  # noqa: E402
from taptrv2_core.ops import active_backend, use_backend  # noqa: E402

GOLDEN_TOLERANCE = 1e-4
PIXELS = {torch.float32: 0.05, torch.float16: 2.0, torch.bfloat16: 8.0}
"""How far two ways of the same step may be apart after 24 frames; half precision rounds differently at each size."""
TINY = replace(PUBLISHED, name="check", input_size=(64, 64), backbone="compact", decoder_layers=2)


def golden(device: str) -> None:
    """The published network's stored outputs, computed on the device in float32."""
    import golden_inputs  # type: ignore[import-not-found]

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    shapes = json.loads((TESTS / "golden" / "state_dict_shapes.json").read_text())
    model = Taptr(PUBLISHED).eval()
    model.load_state_dict({name: torch.from_numpy(golden_inputs.tensor(name, size)) for name, size in shapes.items()})
    model = model.to(device).prepare()
    worst = 0.0
    paths = sorted((TESTS / "golden").glob("*.npz"), key=lambda path: path.stat().st_size)
    for path in paths if device == "cuda" else paths[:1]:
        stored = np.load(path)
        frames, height, width, count, last_start, seed = (
            int(stored[key]) for key in ("frames", "height", "width", "queries", "last_start", "seed")
        )
        video = torch.from_numpy(golden_inputs.video(frames, height, width, seed))
        start, position = (torch.from_numpy(a) for a in golden_inputs.queries(count, frames, last_start, seed))
        xy = position * torch.tensor([width - 1.0, height - 1.0])
        tracks = track_video(model, video, start, xy, takeover_interval=max(1, frames // 24))
        pairs = ((tracks.boxes, "boxes"), (tracks.visibility_logits, "visibility_logits"))
        difference = max(float(np.abs(ours.cpu().numpy() - stored[name]).max()) for ours, name in pairs)
        print(f"golden {path.stem}: largest difference {difference:.1e}")
        worst = max(worst, difference)
    if not worst < GOLDEN_TOLERANCE:
        raise SystemExit(f"golden: {worst:.1e} is more than {GOLDEN_TOLERANCE:.0e}")
    print(f"golden cases in float32: largest difference {worst:.1e}")


def network(config: ModelConfig, device: str, dtype: torch.dtype) -> Taptr:
    """Random weights with heads that move points."""
    torch.manual_seed(0)
    model = Taptr(config)
    for head in model.bbox_embed:
        torch.nn.init.normal_(head.layers[-1].weight, std=0.1)
    return model.to(device).prepare(dtype)


def tracked(model: Taptr, count: int, frames: int) -> NDArray[np.float32]:
    """(frames, count, 2) pixels; half of the points come in the middle."""
    tracker, images = Tracker(model), moving_texture(model.config.input_size)
    xy, found = points(count, model.config.input_size), np.full((frames, count, 2), np.nan, np.float32)
    tracker.add_points(xy[: count // 2])
    for t in range(frames):
        if t == frames // 2:
            tracker.add_points(xy[count // 2 :])
        now = tracker.step(next(images)).xy
        found[t, : len(now)] = now
    return found


def parity(device: str) -> None:
    """The same steps by plain PyTorch, by the fused ops, and on a GPU as CUDA graphs."""
    config, count = (PUBLISHED, 40) if device == "cuda" else (TINY, 10)
    dtypes = list(PIXELS) if device == "cuda" else [torch.float32]
    failed = False
    for dtype in dtypes:
        model = network(config, device, dtype)
        os.environ["TAPTRV2_CUDA_GRAPHS"] = "0"
        with use_backend("reference"):
            plain = tracked(model, count, 24)
        ways = {"fused ops": tracked(model, count, 24)}
        if device == "cuda":
            os.environ["TAPTRV2_CUDA_GRAPHS"] = "1"
            ways["CUDA graphs"] = tracked(model, count, 24)
            from taptrv2_core.fast import cuda_graphs

            failed = failed or cuda_graphs._failed
        name = str(dtype).removeprefix("torch.")
        for way, ours in ways.items():
            difference = float(np.nanmax(np.abs(ours - plain)))
            print(f"steps {name}, {way} against plain PyTorch: {difference:.1e} pixels at most in 24 frames")
            failed = failed or not difference < PIXELS[dtype]
    print(f"points moved {float(np.nanmax(np.abs(plain - plain[:1]))):.1f} pixels at most")
    if failed:
        raise SystemExit("parity: steps differ, or no graph could be recorded")


def soak(device: str) -> None:
    """Memory before and after a thousand steps, and whether the device was asked for any in between."""
    cuda = device == "cuda"
    model = network(PUBLISHED if cuda else TINY, device, torch.float16 if cuda else torch.float32)
    size, count, steps = model.config.input_size, 256 if cuda else 10, 1000 if cuda else 20
    tracker, images = Tracker(model), moving_texture(model.config.input_size)
    tracker.add_points(points(count, size))
    for _ in range(40):
        tracker.step(next(images))
    before, start = _memory(cuda), time.perf_counter()
    for _ in range(steps):
        tracker.step(next(images))
    passed, after = time.perf_counter() - start, _memory(cuda)
    print(f"{steps} steps of {count} points: {1e3 * passed / steps:.2f} ms each")
    print("memory " + ", ".join(f"{name} {before[name]:g} -> {after[name]:g}" for name in before))
    if cuda and after["device allocations"] != before["device allocations"]:
        raise SystemExit("soak: the device was asked for memory in steady state")


def _memory(cuda: bool) -> dict[str, float]:
    if not cuda:
        return {"peak MiB of the process": peak_memory_mib() or 0.0}
    statistics: dict[str, Any] = torch.cuda.memory_stats()
    free, total = torch.cuda.mem_get_info()
    return {
        "held MiB": round(torch.cuda.memory_allocated() / 2**20, 1),
        "peak MiB": round(torch.cuda.max_memory_allocated() / 2**20, 1),
        "peak reserved MiB": round(torch.cuda.max_memory_reserved() / 2**20, 1),
        "MiB of the device in use, by whatever": (total - free) // 2**20,
        "device allocations": statistics["num_device_alloc"],
    }


if __name__ == "__main__":
    step, where = sys.argv[1:]
    if active_backend(where) != "fused":
        raise SystemExit(f"the fused ops are not built for {where}")
    {"golden": golden, "parity": parity, "soak": soak}[step](where)
