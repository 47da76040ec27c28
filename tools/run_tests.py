"""pytest, given its arguments, with a worker for every two cores; one test after another where pytest-xdist is missing.

Started as a script, Python looks for no packages in the checkout, which would hide the installed ones and their ops.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import pytest

# Two, as many tests have a node beside them, or a process that publishes.
COUNT = min(len(os.sched_getaffinity(0)) // 2, 4)
# Files stay whole: the tests of one share a node, and some go on where the one before stopped.
WORKERS = [f"--numprocesses={COUNT}", "--dist=loadfile"] if find_spec("xdist") and COUNT > 1 else []

if __name__ == "__main__":
    sys.exit(pytest.main([*WORKERS, *sys.argv[1:]]))
