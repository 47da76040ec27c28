"""pytest, given its arguments, with a worker for each core; one test after another where pytest-xdist is missing.

Started as a script, Python looks for no packages in the checkout, which would hide the installed ones and their ops.
"""

from __future__ import annotations

import sys
from importlib import metadata

import pytest


def workers() -> list[str]:
    """Options: each worker runs files that follow one another; one with nothing left takes over some of another's."""
    try:
        version = tuple(map(int, metadata.version("pytest-xdist").split(".")[:2]))
    except metadata.PackageNotFoundError:
        return []
    if version < (3, 2):
        return []  # no worksteal yet
    return ["--numprocesses=logical", "--maxprocesses=4", "--dist=worksteal"]


if __name__ == "__main__":
    sys.exit(pytest.main([*workers(), *sys.argv[1:]]))
