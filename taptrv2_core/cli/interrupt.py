"""Ctrl-C for commands that run long: the first ends the work in good order, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from taptrv2_core.cli import SecondInterrupt
from taptrv2_core.progress import say


@contextmanager
def first_interrupt() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C (or SIGTERM) has come. The second one raises SecondInterrupt."""
    came = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            raise SecondInterrupt
        came.set()
        say("interrupted: finishing what was begun (once more: at once)")

    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
