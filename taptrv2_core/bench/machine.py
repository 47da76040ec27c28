"""What the benchmark ran on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from taptrv2_core.fast.processor import cpu_has_bfloat16, cpu_has_tiles
from taptrv2_core.ops import active_backend


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """Machine, software and load, for the head of a report."""
    about: dict[str, Any] = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "cpu bfloat16": cpu_has_bfloat16(),
        "cpu AMX": cpu_has_tiles(),
        "memory GiB": _memory_gib(),
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(device),
        "ops": active_backend(device),
    }
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
        about["cuda"] = torch.version.cuda
    return about


def peak_memory_mib() -> float | None:
    """Most memory this process has held so far, in MiB; None where the system does not say (Linux does)."""
    value = _first("/proc/self/status", "VmHWM")
    return round(int(value.split()[0]) / 1024, 1) if value else None


def _memory_gib() -> float | None:
    value = _first("/proc/meminfo", "MemTotal")
    return round(int(value.split()[0]) / 2**20, 1) if value else None


def _first(path: str, key: str) -> str | None:
    """The value of the first line ``key: value``."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)
