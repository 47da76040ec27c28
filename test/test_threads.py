"""Reading ahead and writing behind, while a core has nothing else to do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from taptrv2_core import threads
from taptrv2_core.threads import ReadAhead, WriteBehind


def test_reading_ahead_is_bounded_passes_errors_on_and_ends() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i
        raise OSError("the end")

    before = threading.active_count()
    with ReadAhead(numbers(), 3) as ready:
        items = iter(ready)
        assert next(items) == 0
        time.sleep(0.2)
        assert len(made) <= 6
        with pytest.raises(OSError, match="the end"):
            assert list(items) == []
    with ReadAhead(numbers(), 3) as ready:
        next(iter(ready))  # and leave
    assert threading.active_count() == before


def test_writing_behind_keeps_the_order_and_reports_errors_for_good() -> None:
    done: list[int] = []

    def write(item: int) -> None:
        if item == 5:
            raise OSError("disk full")
        done.append(item)

    writer = WriteBehind(write, 2)
    with pytest.raises(OSError, match="disk full"):
        _ = [writer.put(i) for i in range(100)]
    assert done == [0, 1, 2, 3, 4]
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            writer.close()


@pytest.mark.skipif(not threads._WAITED.exists(), reason="needs what Linux counts")
def test_threads_stand_back_until_they_get_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the items is kept, and nothing is done twice."""
    waited: list[float] = []  # by each thread that asks
    monkeypatch.setattr(threads, "_seconds_waited", lambda _: sum(waited))
    done: list[tuple[int, int]] = []

    def work(item: int) -> int:
        done.append((item, os.sched_getscheduler(0)))
        waited.append(0.6 if item == 3 else 0.1)
        return item

    expected = [(i, os.SCHED_IDLE if 1 <= i <= 3 else os.SCHED_OTHER) for i in range(8)]
    before = threading.active_count()
    writer = WriteBehind(work, 2)
    for i in range(8):
        writer.put(i)
    writer.close()
    assert done == expected
    done.clear()
    with ReadAhead(map(work, range(8)), 2) as ready:
        assert list(ready) == list(range(8))
    assert done == expected
    assert threading.active_count() == before


# --- the command ------------------------------------------------------------------------------------------------------
