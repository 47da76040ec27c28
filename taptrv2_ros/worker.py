"""One thread that owns the tracker: it processes the newest image, and between images the calls others ask for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerStopped(RuntimeError):
    """The worker was stopped before it could make the call."""


class Worker(Generic[Item]):
    """Processes the newest item offered; older ones that were not begun are dropped and counted.

    Everything that touches the tracker runs in this one thread, so the tracker needs no lock. Calls come before the
    next item: a client that asks while images flood in waits for one step at most.
    """

    def __init__(self, process: Callable[[Item], None], name: str) -> None:
        """``process`` must not raise: it knows better than a thread what to do about an error."""
        self._process = process
        self._condition = threading.Condition()
        self._newest: Item | None = None
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = False
        self._received = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def received(self) -> int:
        """Items offered so far."""
        return self._received

    @property
    def dropped(self) -> int:
        """Items offered and never processed, because a newer one came first."""
        return self._dropped

    def start(self) -> None:
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Hand over an item and return at once."""
        with self._condition:
            self._received += 1
            if self._newest is not None:
                self._dropped += 1
            self._newest = item
            self._condition.notify()

    def call(self, function: Callable[[], Result]) -> Result:
        """Run ``function`` in the worker's thread, before the next item; returns its result or raises its error.

        Raises WorkerStopped if the worker stops first.
        """
        future: Future[Result] = Future()
        with self._condition:
            if self._stopping:
                raise WorkerStopped("the tracker is shutting down")
            self._calls.append((function, future))
            self._condition.notify()
        return future.result()

    def stop(self, timeout: float) -> bool:
        """End the thread after what it is doing now; true if it ended within ``timeout`` seconds."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        with self._condition:
            while self._calls:
                self._calls.popleft()[1].set_exception(WorkerStopped("the tracker is shutting down"))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._calls or self._newest is not None)
                if self._stopping:
                    return
                call = self._calls.popleft() if self._calls else None
                item = None
                if call is None:
                    item, self._newest = self._newest, None
            if call is not None:
                _answer(*call)
            elif item is not None:
                self._process(item)


def _answer(function: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(function())
    except Exception as error:  # handed to the caller, whose call it was
        future.set_exception(error)
