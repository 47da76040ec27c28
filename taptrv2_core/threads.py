"""Reading ahead and writing behind, each in a thread, so that both overlap with what comes between.

Both stand back: they work while a core has nothing else to do. The threads of what comes between wait for each other,
so what takes one of their cores for a while holds up all of them, by more than the time that it takes.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds between looks at whether the other side still lives
_PATIENCE = 0.5  # seconds that an item may wait for a core
_WAITED = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds that a thread has run, and has waited for a core, ..."""


class ReadAhead(Generic[T]):
    """Iterates over what another iterator, run in a thread, has made ready. A context manager that ends the thread."""

    def __init__(self, items: Iterable[T], ahead: int) -> None:
        """``ahead`` bounds how many items wait. What ``items`` raises is raised here, in its place."""
        self._ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items,), name="read ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            item, error, more = self._ready.get()
            if error is not None:
                raise error
            if not more:
                return
            yield item  # type: ignore[misc]

    def _run(self, items: Iterable[T]) -> None:
        iterator = iter(items)

        def read() -> bool:
            try:
                return self._offer((next(iterator), None, True))
            except StopIteration:
                self._offer((None, None, False))
            except BaseException as error:
                self._offer((None, error, False))
            return False

        standing_back(read)
        if isinstance(iterator, Generator):
            iterator.close()

    def _offer(self, entry: tuple[T | None, BaseException | None, bool]) -> bool:
        """Whether it was taken before the end."""
        while not self._stop.is_set():
            try:
                self._ready.put(entry, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False


class WriteBehind(Generic[T]):
    """Calls a function with one item after another in a thread. What it raises ends it, and is raised
    by every later call from here."""

    def __init__(self, function: Callable[[T], None], behind: int) -> None:
        """``behind`` bounds how many items wait."""
        self._function = function
        self._waiting: queue.Queue[tuple[T | None, bool]] = queue.Queue(behind)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=standing_back, args=(self._write,), name="write behind", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over the next item; waits while too many are waiting."""
        self._offer((item, True))

    def close(self) -> None:
        """Wait until everything is done."""
        try:
            self._offer((None, False))
        finally:
            self._thread.join()
        self._raise()

    def _offer(self, entry: tuple[T | None, bool]) -> None:
        while True:
            self._raise()
            try:
                self._waiting.put(entry, timeout=_POLL)
                return
            except queue.Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self) -> bool:
        item, more = self._waiting.get()
        try:
            if more:
                self._function(item)  # type: ignore[arg-type]
        except BaseException as error:
            self._error = error
        return more and self._error is None


def standing_back(step: Callable[[], bool]) -> None:
    """Call ``step``, which must not raise, until it returns False, while a core has nothing else to do.

    Beside programs that never leave a core it would get nowhere that way, and hold up Python meanwhile: once a step has
    waited long for a core, this thread goes on with the usual priority. Others do the work before, since a thread that
    stands back may not come forward again. The first step has the usual priority: threads that libraries start in it
    for the whole process, as OpenCV does, take after the thread that starts them.
    """
    more = step()

    def work() -> None:
        nonlocal more
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        waited = 0.0
        with _WAITED.open("rb", buffering=0) as times:  # once: /proc is slow to find a file
            while more and waited < _PATIENCE:
                before = _seconds_waited(times)
                more = step()
                waited = _seconds_waited(times) - before

    if _WAITED.exists():
        thread = threading.Thread(target=work, name=threading.current_thread().name, daemon=True)
        thread.start()
        thread.join()
    while more:
        more = step()


def _seconds_waited(times: FileIO) -> float:
    """That the thread could have run if there had been a core."""
    times.seek(0)
    return 1e-9 * int(times.read().split()[1])
