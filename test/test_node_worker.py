"""The worker's promises, and the session's after an error that nobody foresaw."""

from __future__ import annotations

import threading
import time

import pytest
import torch

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from builtin_interfaces.msg import Time
from ros_harness import wait_until
from session_harness import Log, ScarceTaptr, track
from tiny import tiny_model

from taptrv2_core import PointError
from taptrv2_core.stamps import Continuity, StampWatch
from taptrv2_ros.session import TrackedFrame, TrackingSession
from taptrv2_ros.worker import Worker, WorkerStopped


def test_the_newest_item_wins_and_the_others_are_counted() -> None:
    processed: list[dict[str, int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def process(items: dict[str, int]) -> None:
        begun.set()
        assert go_on.wait(5)
        processed.append(items)

    worker: Worker[str, int] = Worker(process, "test", print)
    worker.start()
    assert not worker.offer("left", 0)
    assert begun.wait(5)
    dropped = [worker.offer("left", item) for item in range(1, 6)] + [worker.offer("right", 7)]
    go_on.set()
    wait_until(lambda: len(processed) == 2, "two turns")
    assert processed == [{"left": 0}, {"left": 5, "right": 7}]  # what is there together comes together
    assert dropped == [False, True, True, True, True, False]
    assert worker.stop(5)


def test_withdrawing_waits_for_what_is_in_work() -> None:
    processed: list[dict[str, int]] = []
    begun = threading.Event()

    def process(items: dict[str, int]) -> None:
        begun.set()
        time.sleep(0.2)
        processed.append(items)

    worker: Worker[str, int] = Worker(process, "test", print)
    worker.start()
    worker.offer("left", 0)
    assert begun.wait(5)
    worker.offer("left", 1)
    assert worker.withdraw("left")
    assert processed == [{"left": 0}]
    assert not worker.withdraw("left")
    assert worker.stop(5)
    assert processed == [{"left": 0}]


def test_calls_come_before_the_next_item_in_order_and_in_the_workers_thread() -> None:
    log: list[object] = []
    begun, go_on = threading.Event(), threading.Event()

    def process(items: dict[str, str]) -> None:
        begun.set()
        assert go_on.wait(5)
        log.append((items["camera"], threading.current_thread().name))

    worker: Worker[str, str] = Worker(process, "owner", print)
    worker.start()
    worker.offer("camera", "first")
    assert begun.wait(5)
    worker.offer("camera", "second")
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
    worker: Worker[str, int] = Worker(lambda _: None, "test", print)
    worker.start()
    assert worker.call(lambda: 6 * 7) == 42
    assert worker.call(lambda: worker.call(lambda: "from within")) == "from within"
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0)
    assert worker.call(lambda: "still there") == "still there"
    assert worker.stop(5)


def test_an_error_in_work_is_told_once_and_survived() -> None:
    told: list[str] = []
    worker: Worker[str, int] = Worker(lambda items: items["nobody"], "test", told.append)
    worker.start()
    for item in range(3):
        worker.offer("camera", item)
        worker.call(lambda: None)
        assert worker.call(lambda: "still there") == "still there"
    assert worker.stop(5)
    (text,) = told
    assert "KeyError: 'nobody'" in text


def test_stopping_refuses_the_calls_that_wait() -> None:
    begun, go_on = threading.Event(), threading.Event()
    caught: list[Exception] = []

    def process(_: dict[str, int]) -> None:
        begun.set()
        assert go_on.wait(5)

    def call() -> None:
        try:
            worker.call(lambda: None)
        except WorkerStopped as error:
            caught.append(error)

    worker: Worker[str, int] = Worker(process, "test", print)
    worker.start()
    worker.offer("camera", 0)
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


def test_an_unforeseen_error_starts_anew_and_is_told_once() -> None:
    log, model = Log(), tiny_model()
    session = TrackingSession(model, 8, 1, "/test/image_raw", log)
    track(session, 0)
    session.points.add([10.0], [10.0], Time())

    def fail(*_: object) -> None:
        raise RuntimeError("the device is on fire")

    def broken(module: torch.nn.Module, index: int) -> TrackedFrame | None:
        hook = module.register_forward_pre_hook(fail)
        tracked = track(session, index)
        hook.remove()
        return tracked

    # Before the tracker took the image in, only the image is lost; afterwards its state is unknown.
    assert broken(model.transformer.encoder, 1) is None
    assert session.num_points == 1
    assert broken(model.transformer.decoder, 2) is None
    assert broken(model.transformer.decoder, 3) is not None  # without points there is nothing to decode
    tracked = track(session, 4)
    assert tracked is not None
    assert (tracked.result.tracks.frame_index, len(tracked.result.tracks.ids)) == (1, 0)
    assert (session.counters.tracked, session.counters.refused, session.counters.resets) == (3, 2, 1)
    (error,) = log.errors
    assert "the device is on fire" in error
    assert "Traceback" in error
    (warning,) = log.warnings
    assert "1 points are forgotten" in warning


def test_out_of_memory_drops_to_fewer_points_and_goes_on() -> None:
    log = Log()
    model = tiny_model()
    model.__class__ = ScarceTaptr
    session = TrackingSession(model, 100, 1, "/test/image_raw", log)
    limits: list[int] = []
    session.on_limit = lambda: limits.append(session.max_points)
    track(session, 0)
    oldest = session.points.add([10.0, 11.0, 12.0], [10.0, 10.0, 10.0], Time())
    for _ in range(3):
        session.points.add([20.0] * 7, [20.0] * 7, Time())
    assert session.num_points == 24
    tracked = track(session, 1)
    assert tracked is not None  # the image that ran out of memory has its answer
    assert tracked.result.tracks.ids.tolist() == oldest + [3, 4, 5]  # 24, 12, 6: the newest went
    assert tracked.result.tracks.frame_index == 1
    assert limits == [12, 6]
    assert [e for e in log.errors if "out of memory with 24 points" in e]
    assert (session.counters.refused, session.counters.resets) == (0, 0)

    with pytest.raises(PointError, match="at most 6"):
        session.points.add([1.0], [1.0], Time())
    session.max_points = 100
    with pytest.raises(PointError, match="the device has no memory for 9 more points"):
        session.points.add([1.0] * 9, [1.0] * 9, Time())
    assert session.points.add([1.0], [1.0], Time())
    for index in range(2, 12):
        tracked = track(session, index)
        assert tracked is not None
        assert len(tracked.result.tracks.ids) == 7


def test_a_cut_starts_anew_and_the_image_before_it_is_not_lost() -> None:
    log = Log()
    session = TrackingSession(tiny_model(), 8, 1, "/test/image_raw", log)
    reasons: list[str] = []
    session.on_reset = reasons.append
    track(session, 0)
    session.points.add([10.0], [10.0], Time())
    for index, epoch, points in ((1, 0, 1), (2, 1, 0), (3, 1, 0)):
        tracked = track(session, index, Continuity(epoch, "stamps went back by 3 s"))
        assert tracked is not None
        assert (len(tracked.result.tracks.ids), tracked.reset_count) == (points, epoch)
    assert reasons == ["stamps went back by 3 s"]
    assert session.monitor.reset_reason == reasons[0]


def test_cuts_that_follow_each_other_are_not_told_one_by_one() -> None:
    log = Log()
    session = TrackingSession(tiny_model(), 8, 1, "/test/image_raw", log)
    for index in range(6):  # as when two cameras publish on one topic
        track(session, index, Continuity(index, "stamps went back by 0.1 s"))
    assert session.counters.resets == 5
    first, second = log.warnings
    assert "tracking starts anew" in first
    assert "again within 1 s: does more than one camera publish on it?" in second
    session.monitor.last_reset -= 60
    track(session, 6, Continuity(6, "stamps went back by 3 s"))
    assert "stamps went back by 3 s: tracking starts anew" in log.warnings[2]


def test_headers_are_kept_only_as_long_as_images() -> None:
    session = TrackingSession(tiny_model(), 8, 1, "/test/image_raw", Log())
    kept = []
    for index in range(30):
        track(session, index)
        kept.append(len(session._headers))
    assert max(kept) == 8


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("stamps", "epochs", "reason"),
    [
        ([10.0, 10.1, 10.2, 11.1], [0, 0, 0, 0], ""),
        ([10.0, 10.1, 3.0, 3.1], [0, 0, 1, 1], "stamps went back by 7.1 s"),
        ([10.0, 11.5, 11.6], [0, 1, 1], "no image for 1.5 s by their stamps (max_gap is 1 s)"),
        ([10.0, 10.0, 10.1], [0, None, 0], ""),
        ([0.0, 0.0, 0.0], [0, 0, 0], ""),
        ([10.0, 0.0, 10.1, 9.0], [0, 0, 0, 1], "stamps went back by 1.1 s"),
    ],
)
def test_cuts_are_found_by_the_stamps(stamps: list[float], epochs: list[int | None], reason: str) -> None:
    watch = StampWatch(1.0)
    found = [watch.receive(round(stamp * SECOND)) for stamp in stamps]
    assert [c and c.epoch for c in found] == epochs
    assert found[-1] is not None and found[-1].reason == reason


def test_without_a_gap_only_going_back_is_a_cut() -> None:
    watch = StampWatch(0.0)
    assert watch.receive(SECOND) == watch.receive(9999 * SECOND) == Continuity(0, "")
    assert watch.receive(5 * SECOND) == Continuity(1, "stamps went back by 9994 s")
