"""Which implementation of the ops runs: the fused library where it is built and loads, else plain PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

Backend = Literal["fused", "reference"]

LIBRARY_NAME = "_taptrv2_ops"
# Not resolved: in a symlink install the library lies beside the link, not beside the source file.
LIBRARY_FOLDER = Path(__file__).parent

_forced: Backend | None = None
_loaded: bool | None = None
_failure = ""


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


def active_backend() -> Backend:
    """The implementation that the next call will use; loads the library if that was not tried yet."""
    if _forced is not None:
        return _forced
    if _loaded is None and not library_loaded():
        warnings.warn(
            f"taptrv2_core: the fused ops are not there, plain PyTorch is used instead: same results, several times "
            f"slower and with more memory. {_failure}",
            RuntimeWarning,
            stacklevel=3,
        )
    return "fused" if _loaded else "reference"


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
        return (
            f"No {LIBRARY_NAME}*.so in {LIBRARY_FOLDER}: install a C++ compiler and build it with "
            "`python setup.py build_ext --inplace`."
        )
    try:
        torch.ops.load_library(str(found[0]))
        from taptrv2_core.ops import fused  # noqa: F401  (registers autograd and fake kernels of the loaded ops)
    except (OSError, ImportError, RuntimeError) as error:
        return (
            f"{found[0]} does not load ({error}). It must be built with the torch that runs it ({torch.__version__}): "
            "build it again with `python setup.py build_ext --inplace`."
        )
    return ""
