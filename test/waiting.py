"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT = 60.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT) -> None:
    """Fail with ``what`` if the condition does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s still waiting for {what}"
        time.sleep(0.01)
