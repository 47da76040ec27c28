"""Reading ahead and writing behind, each in a thread, so that both overlap with tracking."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds between looks at whether the other side still lives


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
        try:
            for item in iterator:
                if not self._offer((item, None, True)):
                    break
            else:
                self._offer((None, None, False))
        except BaseException as error:
            self._offer((None, error, False))
        finally:
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
        self._thread = threading.Thread(target=self._run, name="write behind", daemon=True)
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

    def _run(self) -> None:
        while True:
            item, more = self._waiting.get()
            if not more:
                return
            try:
                self._function(item)  # type: ignore[arg-type]
            except BaseException as error:
                self._error = error
                return
