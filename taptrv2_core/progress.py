"""Progress with an estimate of the time left, on stderr: tqdm's bar if installed, plain lines otherwise."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

Advance = Callable[[str], None]
"""Counts one more; the text says what it was."""
_EVERY_SECONDS = 5.0


@contextmanager
def counting_bar(total: int, unit: str, title: str = "") -> Iterator[Advance]:
    """Counts anything, ``total`` of them; 0: nobody knows how many."""
    tqdm = bar_class()
    if tqdm is None:
        yield _PlainLines(total, unit)
        return
    slow = 0.1 if sys.stderr.isatty() else _EVERY_SECONDS
    bar: Any = tqdm(
        total=total or None, desc=title, unit=unit, file=sys.stderr, dynamic_ncols=True, leave=False, mininterval=slow
    )

    def advance(what: str) -> None:
        bar.set_postfix_str(what, refresh=False)
        bar.update()

    try:
        yield advance
    finally:
        bar.close()


def say(text: str) -> None:
    """A line on stderr, above the bar that may be there."""
    tqdm = bar_class()
    if tqdm is None:
        print(text, file=sys.stderr, flush=True)
    else:
        tqdm.write(text, file=sys.stderr)


@cache
def bar_class() -> Any:
    """tqdm, or None where it is not installed.

    With a lock between threads alone. tqdm's own is one between processes too, and from Python 3.14 on another process
    watches over that: it would complain on stderr when a second Ctrl-C ends the command at once.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        return None

    class Bar(tqdm):
        _lock = threading.RLock()

    return Bar


class _PlainLines:
    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done = 0
        self.begin = self.said = time.monotonic()

    def __call__(self, what: str) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.said < _EVERY_SECONDS and self.done != self.total:
            return
        self.said = now
        left = (now - self.begin) / self.done * max(self.total - self.done, 0)
        count = (
            f"{self.done}/{self.total} {self.unit}s, about {left:.0f} s left"
            if self.total
            else f"{self.done} {self.unit}s"
        )
        print(f"{count} ({what})" if what else count, file=sys.stderr)
