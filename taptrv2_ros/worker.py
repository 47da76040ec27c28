"""One thread that owns the network: it processes the newest images, and between images the calls others ask for."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerStopped(RuntimeError):
    """The worker was stopped before it could make the call."""

    def __init__(self) -> None:
        super().__init__("the tracker is shutting down")


class Worker(Generic[Source, Item]):
    """Processes the newest item of every source, those that are there together at once; older ones are dropped.

    Everything that touches the trackers runs in this one thread, so they need no lock. Calls that wait come before the
    next items, so a client waits for one step at most; those that come meanwhile wait for the next turn, so that a
    flood of calls does not hold up the images.
    """

    def __init__(
        self, process: Callable[[dict[Source, Item]], None], name: str, report: Callable[[str], object]
    ) -> None:
        """``process`` is to handle its errors; one that it lets through is told to ``report``, once, and survived."""
        self._process = process
        self._report, self._told = report, ""
        self._condition = threading.Condition()
        self._newest: dict[Source, Item] = {}
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, source: Source, item: Item) -> bool:
        """Hand over an item and return at once; true if an older one is dropped for it."""
        with self._condition:
            replaced = source in self._newest
            self._newest[source] = item
            self._condition.notify()
        return replaced

    def withdraw(self, source: Source) -> bool:
        """Take back what was offered and not begun, and wait for what was; true if there was something to take back."""
        with self._condition:
            found = self._newest.pop(source, None) is not None
        self.call(lambda: None)
        return found

    def call(self, function: Callable[[], Result]) -> Result:
        """Run ``function`` in the worker's thread, before the next items; returns its result or raises its error.

        From that thread itself it runs at once. Raises WorkerStopped if the worker stops first.
        """
        if threading.current_thread() is self._thread:
            return function()
        future: Future[Result] = Future()
        with self._condition:
            self.check()
            self._calls.append((function, future))
            self._condition.notify()
        return future.result()

    def check(self) -> None:
        """Raises WorkerStopped if no call can be made any more."""
        if self._stopping:
            raise WorkerStopped

    def stop(self, timeout: float) -> bool:
        """End the thread after what it is doing now; true if it ended within ``timeout`` seconds."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        with self._condition:
            while self._calls:
                self._calls.popleft()[1].set_exception(WorkerStopped())
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._calls or self._newest)
                if self._stopping:
                    return
                calls = list(self._calls)
                self._calls.clear()
            for call in calls:
                _answer(*call)
            with self._condition:
                items, self._newest = self._newest, {}
            if items:
                self._try(items)

    def _try(self, items: dict[Source, Item]) -> None:
        try:
            self._process(items)
        except Exception as error:  # without this thread nobody would be answered any more
            told, self._told = self._told, repr(error)
            if self._told != told:
                self._report(f"{self._thread.name}: {traceback.format_exc()}")


def _answer(function: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(function())
    except Exception as error:  # handed to the caller, whose call it was
        future.set_exception(error)
