"""What every program of this package cannot start without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGES = {"torch": "torch>=2.4", "numpy": "numpy", "cv2": "opencv-python-headless"}
"""By the name of their module what pip is to install."""


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
