"""Progress with an estimate of the time left, on stderr: tqdm's bar if installed, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taptrv2_core.evaluation.runner import Progress

_EVERY_SECONDS = 5.0


@contextmanager
def progress_bar(total: int) -> Iterator[Progress]:
    """Counts runs of one method on one video, ``total`` of them."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield _PlainLines(total)
        return
    bar: Any = tqdm(total=total, unit="run", file=sys.stderr, dynamic_ncols=True, leave=False)

    def advance(sample: str, method: str) -> None:
        bar.set_postfix_str(f"{sample}, {method}", refresh=False)
        bar.update()

    try:
        yield advance
    finally:
        bar.close()


class _PlainLines:
    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.begin = self.said = time.monotonic()

    def __call__(self, sample: str, method: str) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.said < _EVERY_SECONDS and self.done < self.total:
            return
        self.said = now
        left = (now - self.begin) / self.done * max(self.total - self.done, 0)
        print(f"{self.done}/{self.total} runs, about {left:.0f} s left ({sample}, {method})", file=sys.stderr)
