"""What this machine's processor can do."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """What Linux says that an x86 processor has; empty elsewhere."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return frozenset()


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has x86 instructions for bfloat16 products; elsewhere they are emulated, slower than float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())


def cpu_has_tiles() -> bool:
    """Whether it has AMX, whose bfloat16 products are many times faster than any in vectors."""
    return "amx_bf16" in cpu_flags()


def cpu_has_pairs() -> bool:
    """Whether its vectors multiply bfloat16 in pairs; processors with AMX do, too, and the fused ops prefer that."""
    return "avx512_bf16" in cpu_flags()
