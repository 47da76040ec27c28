"""What comes first in every program, before torch is loaded."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
"""Of glibc's malloc.h; values are ints."""
GIB = 2**30
_PACKAGES = {"torch": "torch>=2.4", "numpy": "numpy", "cv2": "opencv-python-headless"}
"""By the name of their module what pip is to install."""


def settle_environment() -> None:
    """What torch's libraries read when they are loaded. Settings of the user's own stay."""
    # OpenMP's threads spin for a moment only while they wait, then sleep. On a CPU that other work uses too, spinning
    # on makes a step take ten times as long (docs/benchmarks).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # How many compiled kernels PyTorch and oneDNN keep, 1024 by default: each number of points needs some of its own,
    # of a third of a megabyte, so where points come and go memory would rise by hundreds of megabytes. Two cameras, now
    # together and now apart, need about 100 at a time.
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "128")


def share_one_heap() -> bool:
    """Let all threads of this process allocate from one heap: what one frees is there for the others. The heaps of 64
    MiB that threads have otherwise are soon in pieces, and the memory of a program that runs for days in many threads
    creeps up.

    Call it before numpy and torch are loaded: a heap that one of their threads has made is shared like the first.
    Returns whether the C library has it (glibc does).
    """
    return set_malloc({M_ARENA_MAX: 1})


def keep_freed_memory(largest: int = GIB, ahead: int = GIB // 16) -> bool:
    """Let this process keep the memory it frees, instead of giving it back and faulting it in again at every frame.

    A setting of the whole process, so for programs to choose, not for libraries: a fifth of the time of large networks
    on a CPU. The peak of memory stays what it is. Blocks above ``largest`` bytes are given back all the same. The
    heap grows by ``ahead`` bytes more than needed: large for programs that run once, small for those that run for days,
    whose heap gets a hole whenever it grows. Returns whether the C library has it (glibc does).
    """
    return set_malloc({M_MMAP_THRESHOLD: largest, M_TRIM_THRESHOLD: 2 * GIB - 1, M_TOP_PAD: ahead})


def set_malloc(settings: dict[int, int]) -> bool:
    """Parameters of the C library's malloc by their number in malloc.h; returns whether it has taken them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    results = [mallopt(key, value) for key, value in settings.items()]
    return all(results)


@contextmanager
def needed_packages(program: str) -> Iterator[None]:
    """Around a program's imports: ends it with one line where a package is missing, and without a word at Ctrl-C."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        package = _PACKAGES[error.name]
        sys.exit(f"{program}: cannot start: {sys.executable} has no {error.name}; install it: pip install '{package}'")
    except KeyboardInterrupt:
        sys.exit(130)
