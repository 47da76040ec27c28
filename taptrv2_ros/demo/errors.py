"""What can go wrong in the demo, each ending it with one line."""

from __future__ import annotations

import importlib
from types import ModuleType


class DemoError(Exception):
    """The demo cannot go on, through no fault of its input: the node ended, did not answer, or refused."""

    status = 1


class InputError(DemoError):
    """The input cannot be played."""

    status = 2


def optional(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module that only the demo needs. Raises DemoError naming the package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DemoError(f"{purpose} needs the Python package {package}: pip install {package} ({error})") from error
