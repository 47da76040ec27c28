"""Memory: giving back what was freed, and telling that there is none left."""

from __future__ import annotations

import ctypes
import gc
import re

import torch

# What PyTorch's CPU allocator and CUDA's libraries say, as plain RuntimeErrors.
_EXHAUSTED = re.compile(r"not enough memory|can't allocate memory|out of memory|STATUS_ALLOC_FAILED", re.IGNORECASE)


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
