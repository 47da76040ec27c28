"""What becomes of freed memory."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h; values are ints.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
GIB = 2**30


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, instead of giving it back and faulting it in again at every frame.

    A setting of the whole process, so for programs to choose, not for libraries: a fifth of the time of large networks
    on a CPU. The peak of memory stays what it is. Returns whether the C library has it (glibc does).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {M_MMAP_THRESHOLD: GIB, M_TRIM_THRESHOLD: 2 * GIB - 1, M_TOP_PAD: GIB // 16}
    results = [mallopt(key, value) for key, value in settings.items()]
    return all(results)
