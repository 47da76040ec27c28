"""One contender, one number of points: run in a process of its own, so that its memory is its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import torch

from taptrv2_core.bench.contenders import Contender, Recomputing, network, stepper, tracker_of
from taptrv2_core.bench.frames import moving_texture
from taptrv2_core.bench.machine import peak_memory_mib
from taptrv2_core.bench.micro import op_rows
from taptrv2_core.bench.parts import part_medians
from taptrv2_core.bench.timing import repeat, summary
from taptrv2_core.ops import use_backend
from taptrv2_core.startup import keep_freed_memory

WARM_UP = 12
"""Frames before any is timed: the ring is full after 8, and two windows have committed."""
PART_STEPS = 24


@dataclass(frozen=True)
class Job:
    """What to time; sizes are (height, width)."""

    contender: Contender
    weights: str
    points: int
    image_size: tuple[int, int]
    input_size: tuple[int, int] | None
    device: str
    threads: int
    frames: int
    seconds: float


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def time_steps(job: Job) -> dict[str, Any]:
    """Time a contender's steps: milliseconds a frame, its parts, memory."""
    set_up(job.threads)
    device = torch.device(job.device)
    contender = job.contender
    with use_backend(contender.backend if contender.kind != "lk" else "reference"):
        images = moving_texture(job.image_size)
        model = tracker = None
        if contender.kind != "lk":
            model = network(job.weights, device, contender.dtype, job.input_size)
            tracker = tracker_of(contender, model, job.image_size, job.points)
        step = stepper(contender, tracker, job.image_size, job.points)
        for _ in range(WARM_UP):
            step(next(images))
        if isinstance(tracker, Recomputing):
            tracker.active = True
            step(next(images))
        commits: list[bool] = []

        def timed() -> None:
            step(next(images))
            commits.append(tracker is not None and tracker._engine.commits)

        times = repeat(timed, job.frames, job.seconds, device)
        row = {**_labels(job), "frames": len(times), **summary(times)}
        for name, kind in (("commit", True), ("provisional", False)):
            some = [t for t, c in zip(times, commits, strict=True) if c is kind]
            row[f"{name} p50"] = summary(some)["p50"] if some and tracker is not None else None
        row["peak MiB"] = peak_memory_mib()
        if device.type == "cuda":
            row["peak device MiB"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
            row["reserved device MiB"] = round(torch.cuda.max_memory_reserved(device) / 2**20, 1)
        if model is not None and contender.kind == "keep":
            row["parts"] = part_medians(model, lambda: step(next(images)), min(job.frames, PART_STEPS))
    return row


def time_ops(job: Job, backends: list[str], dtypes: list[str]) -> list[dict[str, Any]]:
    """Time the ops alone, at the sizes of the job's network."""
    set_up(job.threads)
    device = torch.device(job.device)
    config = network(job.weights, device, "float32", job.input_size).config
    return op_rows(config, job.points, backends, dtypes, device, job.frames)


def _labels(job: Job) -> dict[str, Any]:
    contender = asdict(job.contender)
    if contender["kind"] == "lk":
        return {"name": contender["name"], "ops": "", "dtype": "", "points": job.points}
    return {"name": contender["name"], "ops": contender["backend"], "dtype": contender["dtype"], "points": job.points}


def set_up(threads: int) -> None:
    """What every process that times something begins with."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(threads)
