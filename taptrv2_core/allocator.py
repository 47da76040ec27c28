"""Memory: what becomes of it when it is freed, and telling that there is none left."""

from __future__ import annotations

import ctypes
import gc
import re

import torch

# Of glibc's malloc.h; values are ints.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
GIB = 2**30
# What PyTorch's CPU allocator and CUDA's libraries say, as plain RuntimeErrors.
_EXHAUSTED = re.compile(r"not enough memory|can't allocate memory|out of memory|STATUS_ALLOC_FAILED", re.IGNORECASE)


def keep_freed_memory(largest: int = GIB) -> bool:
    """Let this process keep the memory it frees, instead of giving it back and faulting it in again at every frame.

    A setting of the whole process, so for programs to choose, not for libraries: a fifth of the time of large networks
    on a CPU. The peak of memory stays what it is. Blocks above ``largest`` bytes are given back all the same. Returns
    whether the C library has it (glibc does).
    """
    return _set({M_MMAP_THRESHOLD: largest, M_TRIM_THRESHOLD: 2 * GIB - 1, M_TOP_PAD: GIB // 16})


def share_one_heap() -> bool:
    """Let all threads of this process allocate from one heap: what one frees is there for the others, and the heaps of
    64 MiB that threads have otherwise, which are soon in pieces, are not made. Call it before threads are started.
    Returns whether the C library has it (glibc does)."""
    return _set({M_ARENA_MAX: 1})


def _set(settings: dict[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    results = [mallopt(key, value) for key, value in settings.items()]
    return all(results)


def release_freed_memory() -> None:
    """Give the memory that is free in this process back to the system and to the other users of the GPU, once."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device, or the host, has no memory left for what was asked."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _EXHAUSTED.search(str(error)) is not None
