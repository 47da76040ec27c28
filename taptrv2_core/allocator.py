"""Memory: what becomes of it when it is freed, and telling that there is none left."""

from __future__ import annotations

import ctypes
import gc
import re

import torch

from taptrv2_core.startup import set_malloc

# Of glibc's malloc.h; values are ints.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
GIB = 2**30
# What PyTorch's CPU allocator and CUDA's libraries say, as plain RuntimeErrors.
_EXHAUSTED = re.compile(r"not enough memory|can't allocate memory|out of memory|STATUS_ALLOC_FAILED", re.IGNORECASE)


def keep_freed_memory(largest: int = GIB, ahead: int = GIB // 16) -> bool:
    """Let this process keep the memory it frees, instead of giving it back and faulting it in again at every frame.

    A setting of the whole process, so for programs to choose, not for libraries: a fifth of the time of large networks
    on a CPU. The peak of memory stays what it is. Blocks above ``largest`` bytes are given back all the same. The
    heap grows by ``ahead`` bytes more than needed: large for programs that run once, small for those that run for days,
    whose heap gets a hole whenever it grows. Returns whether the C library has it (glibc does).
    """
    return set_malloc({M_MMAP_THRESHOLD: largest, M_TRIM_THRESHOLD: 2 * GIB - 1, M_TOP_PAD: ahead})


def release_freed_memory() -> None:
    """Give the memory that is free in this process back to the system and to the other users of the GPU, once."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Give the host memory that is free in this process back to the system, once: some milliseconds, and what is needed
    again is faulted in again. For moments at which work starts anew, so that holes in the heap do not add up."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device, or the host, has no memory left for what was asked."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _EXHAUSTED.search(str(error)) is not None
