"""The worker's promises, and the session's after an error that nobody foresaw."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from builtin_interfaces.msg import Time
from camera_process import camera_message
from ros_harness import SIZE, wait_until
from tiny import tiny_model

from taptrv2_ros.session import TrackingSession
from taptrv2_ros.worker import Worker, WorkerStopped


def test_the_newest_item_wins_and_the_others_are_counted() -> None:
    processed: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def process(item: int) -> None:
        begun.set()
        assert go_on.wait(5)
        processed.append(item)

    worker: Worker[int] = Worker(process, "test")
    worker.start()
    worker.offer(0)
    assert begun.wait(5)
    for item in range(1, 6):
        worker.offer(item)
    go_on.set()
    wait_until(lambda: len(processed) == 2, "two items")
    assert processed == [0, 5]
    assert (worker.received, worker.dropped) == (6, 4)
    assert worker.stop(5)


def test_calls_come_before_the_next_item_in_order_and_in_the_workers_thread() -> None:
    log: list[object] = []
    begun, go_on = threading.Event(), threading.Event()

    def process(item: str) -> None:
        begun.set()
        assert go_on.wait(5)
        log.append((item, threading.current_thread().name))

    worker: Worker[str] = Worker(process, "owner")
    worker.start()
    worker.offer("first")
    assert begun.wait(5)
    worker.offer("second")
    callers = []
    for name in ("call 1", "call 2"):
        function = lambda name=name: log.append((name, threading.current_thread().name))  # noqa: E731
        callers.append(threading.Thread(target=worker.call, args=(function,)))
        callers[-1].start()
        time.sleep(0.05)
    go_on.set()
    wait_until(lambda: len(log) == 4, "all of it")
    assert log == [(what, "owner") for what in ("first", "call 1", "call 2", "second")]
    for caller in callers:
        caller.join()
    assert worker.stop(5)


def test_results_and_errors_of_calls_reach_the_caller() -> None:
    worker: Worker[int] = Worker(lambda _: None, "test")
    worker.start()
    assert worker.call(lambda: 6 * 7) == 42
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0)
    assert worker.call(lambda: "still there") == "still there"
    assert worker.stop(5)


def test_stopping_refuses_the_calls_that_wait() -> None:
    begun, go_on = threading.Event(), threading.Event()
    caught: list[Exception] = []

    def process(_: int) -> None:
        begun.set()
        assert go_on.wait(5)

    def call() -> None:
        try:
            worker.call(lambda: None)
        except WorkerStopped as error:
            caught.append(error)

    worker: Worker[int] = Worker(process, "test")
    worker.start()
    worker.offer(0)
    assert begun.wait(5)
    caller = threading.Thread(target=call)
    caller.start()
    time.sleep(0.05)
    assert not worker.stop(0.1)  # still busy: said, not waited for without end
    caller.join(5)
    assert len(caught) == 1
    with pytest.raises(WorkerStopped):
        worker.call(lambda: None)
    go_on.set()


class Log:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.error, self.warning = self.errors.append, self.warnings.append

    def info(self, message: str) -> None:
        """Not of interest."""


def test_an_unforeseen_error_starts_anew_and_is_told_once() -> None:
    log, model = Log(), tiny_model()
    session = TrackingSession(model, 8, 1, "/test/image_raw", log)
    session.track(camera_message(0, SIZE, False, ""))
    session.add([10.0], [10.0], Time())

    def fail(*_: object) -> None:
        raise RuntimeError("the device is on fire")

    hooks = [m.register_forward_pre_hook(fail) for m in model.modules()]
    assert session.track(camera_message(1, SIZE, False, "")) == []
    assert session.track(camera_message(2, SIZE, False, "")) == []
    for hook in hooks:
        hook.remove()
    (result,) = session.track(camera_message(3, SIZE, False, ""))
    assert (result.tracks.frame_index, len(result.tracks.ids)) == (0, 0)
    assert (session.counters.tracked, session.counters.refused, session.counters.resets) == (2, 2, 1)
    (error,) = log.errors
    assert "the device is on fire" in error
    assert "Traceback" in error
    (warning,) = log.warnings
    assert "1 points are forgotten" in warning


def test_headers_are_kept_only_as_long_as_images() -> None:
    session = TrackingSession(tiny_model(), 8, 1, "/test/image_raw", Log())
    kept = []
    for index in range(30):
        session.track(camera_message(index, SIZE, False, ""))
        kept.append(len(session._headers))
    assert max(kept) == 8
