"""Which implementation of the ops runs: the fused library where it is built and loads, else plain PyTorch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["fused", "reference"]

LIBRARY_NAME = "_taptrv2_ops"
# Not resolved: in a symlink install the library lies beside the link, not beside the source file.
LIBRARY_FOLDER = Path(__file__).parent
BUILD = "`pip install .`, `colcon build` or `python setup.py build_ext --inplace`"

_forced: Backend | None = None
_loaded: bool | None = None
_failure = ""
_warned: set[str] = set()


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Run the ops by "fused" or "reference" inside this block, whatever is built.

    For tests and benchmarks; the choice holds for the whole process. Raises RuntimeError where "fused" is asked for
    and the library cannot be loaded.
    """
    global _forced
    if backend not in ("fused", "reference"):
        raise ValueError(f"use_backend: 'fused' or 'reference' expected, got {backend!r}")
    if backend == "fused" and not library_loaded():
        raise RuntimeError(f"use_backend: the fused ops are not there: {_failure}")
    before, _forced = _forced, backend
    try:
        yield
    finally:
        _forced = before


def active_backend(device: str | torch.device = "cpu") -> Backend:
    """The implementation that tensors on `device` meet; loads the library if that was not tried yet."""
    if _forced is not None:
        return _forced
    kind = torch.device(device).type
    return "fused" if library_loaded() and (kind == "cpu" or (kind == "cuda" and _cuda_built())) else "reference"


def fused_for(tensor: Tensor) -> bool:
    """Whether a call on this tensor goes to the fused library; warns once where the library is what is missing.

    On the CPU float16 always goes to plain PyTorch: processors compute in float32 and bfloat16.
    """
    if _forced is not None:
        return _forced == "fused"
    if tensor.device.type == "cpu" and tensor.dtype == torch.float16:
        return False
    if active_backend(tensor.device) == "fused":
        return True
    _warn_once(_failure or f"The library is built without {tensor.device.type}.")
    return False


def library_loaded() -> bool:
    """Load the fused library once; False, with the reason kept for the messages, if that is not possible."""
    global _loaded, _failure
    if _loaded is None:
        _failure = _load()
        _loaded = not _failure
    return _loaded


def _load() -> str:
    """Load the library; returns why not, empty if it is loaded."""
    found = sorted(LIBRARY_FOLDER.glob(f"{LIBRARY_NAME}*.so"))
    if not found:
        return f"No {LIBRARY_NAME}*.so in {LIBRARY_FOLDER}: install a C++ compiler and build it by {BUILD}."
    try:
        _check_torch(found[0])
        torch.ops.load_library(str(found[0]))
        from taptrv2_core.ops import fused  # noqa: F401  (registers gradients and fake kernels of the loaded ops)
    except (OSError, ImportError, RuntimeError) as error:
        return (
            f"{found[0]} does not load ({error}). It must be built with the torch that runs it ({torch.__version__}): "
            f"build it again, as it was built, by {BUILD}."
        )
    return ""


def _check_torch(library: Path) -> None:
    """Raise ImportError for a library of another torch, which may load all the same, and fail when an op is called."""
    built_for = re.search(rb"taptrv2 ops built for torch ([\d.]+)", library.read_bytes())  # csrc/ops.cpp
    if built_for is None:
        raise ImportError("it does not say for which torch it is built")
    if built_for[1].decode() != re.split(r"[^\d.]", torch.__version__)[0]:
        raise ImportError(f"it is built for torch {built_for[1].decode()}")


def _cuda_built() -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("taptrv2::multi_scale", "CUDA"))


def _warn_once(reason: str) -> None:
    if reason in _warned:
        return
    _warned.add(reason)
    warnings.warn(
        f"taptrv2_core: the fused ops cannot be used, plain PyTorch runs instead: same results, several times slower "
        f"and with more memory. {reason}",
        RuntimeWarning,
        stacklevel=4,
    )
