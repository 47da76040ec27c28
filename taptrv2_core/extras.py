"""Packages that only some parts need, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from taptrv2_core.errors import MissingPackageError


def optional(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module. Raises MissingPackageError naming the package to install and what needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{purpose} needs the Python package {package}: pip install {package} ({error})"
        ) from error
