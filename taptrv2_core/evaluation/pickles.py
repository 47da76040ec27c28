"""Reads the pickle files of TAP-Vid without running what may be in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_ALLOWED = {
    "builtins": {"list", "dict", "tuple", "set", "frozenset", "bytes", "bytearray", "complex"},
    "__builtin__": {"list", "dict", "tuple", "set", "bytearray"},
    "collections": {"OrderedDict"},
    "_codecs": {"encode"},
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
}
"""What arrays, containers and bytes are made of. ``_codecs.encode`` is how old protocols write bytes."""


class DatasetError(ValueError):
    """A dataset's file is missing, damaged or of another form; the message says which and what to do."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 writes numpy._core where numpy 1 wrote numpy.core, and each should read the other's files.
        plain = module.replace("numpy._core", "numpy.core")
        if name not in _ALLOWED.get(plain, ()):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        if plain.startswith("numpy.core."):
            core = "numpy._core" if hasattr(np, "_core") else "numpy.core"
            module = plain.replace("numpy.core", core)
        return super().find_class(module, name)


def load_arrays(path: Path) -> Any:
    """Unpickle a file that may hold numpy arrays, lists, dicts, tuples, bytes, strings and numbers, and nothing else.

    Raises:
        DatasetError: the file is missing, damaged, or refers to anything else (it is then not run).
    """
    try:
        with path.open("rb") as file:
            return _load(file)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise DatasetError(
            f"{path}: not a pickle of arrays: {error}. Only arrays, containers and bytes are loaded, as a pickle can "
            "run any program; fetch the file again from the dataset's own page"
        ) from error
    except MemoryError:
        raise DatasetError(f"{path}: does not fit into memory, or is damaged") from None
    except Exception as error:  # a damaged pickle raises nearly anything: IndexError, UnicodeDecodeError, KeyError, ...
        raise DatasetError(
            f"{path}: damaged or cut short ({type(error).__name__}: {error}); fetch the file again"
        ) from error


def _load(file: BinaryIO) -> Any:
    return _ArrayUnpickler(file).load()
