"""The benchmark's tables: where an image's time goes, and what each of it costs the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taptrv2_ros.bench.probe import Mark

Nanoseconds = NDArray[np.int64]
STEP = "the tracker's step"
STAGES = {
    "deserialise, take": ("received", "callback"),
    "hand to the worker": ("callback", "begun"),
    "convert": ("begun", "prepared"),
    STEP: ("prepared", "tracked"),
    "publish tracks": ("tracked", "out"),
}
AFTER = {"afterwards: refined tracks, other parts": ("out", "published")}


def wall_rows(marks: Sequence[dict[str, Mark]], outside: Sequence[dict[str, int]]) -> dict[str, Nanoseconds]:
    """Wall time of each image, stage by stage.

    Args:
        marks: of each image, see `Probe`.
        outside: of each image, what the camera's process printed.
    """
    wall = _columns(marks, "wall")
    rows = {name: wall[end] - wall[start] for name, (start, end) in STAGES.items()}
    age = wall["out"] - wall["received"]
    rows["**added by the node**"] = age - rows[STEP]
    rows |= {name: wall[end] - wall[start] for name, (start, end) in AFTER.items()}
    rows["age of the tracks: from the image's arrival until they are published"] = age
    rows["from before the camera publishes until its client has the tracks"] = np.array(
        [line["received"] - line["before"] for line in outside]
    )
    return rows


def cpu_rows(marks: Sequence[dict[str, Mark]]) -> dict[str, Nanoseconds]:
    """CPU time of each image but the first, for a tracker that steps in one thread.

    What other work on the machine takes is not in these. A thread's time from one image to the next is all it did for
    that image, with the executor's part and the waking.
    """
    thread, process = _columns(marks, "thread"), _columns(marks, "process")

    def over(start: str, end: str) -> Nanoseconds:
        return (thread[end] - thread[start])[1:]

    received, step = np.diff(thread["handed"]), over("prepared", "tracked")
    rows = {
        "receive: executor, deserialise, hand over": received,
        "wake the worker": thread["begun"][1:] - thread["published"][:-1],
        "convert": over("begun", "prepared"),
        "publish tracks": over("tracked", "out"),
    }
    rows["**added by the node's threads**"] = np.sum(list(rows.values()), axis=0)
    rows |= {name: over(start, end) for name, (start, end) in AFTER.items()}
    rows[STEP] = step
    rows["all threads of the process, the middleware's too, less the step"] = np.diff(process["published"]) - step
    return rows


def print_table(title: str, rows: dict[str, Nanoseconds]) -> None:
    """Percentiles, in milliseconds."""
    print(f"| {title} | p10 | p50 | p90 | p99 | max |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(_percentiles(values))} |")


def _columns(marks: Sequence[dict[str, Mark]], clock: str) -> dict[str, Nanoseconds]:
    return {name: np.array([getattr(m[name], clock) for m in marks], dtype=np.int64) for name in marks[0]}


def _percentiles(nanoseconds: Nanoseconds) -> list[str]:
    return [f"{value / 1e6:.2f}" for value in (*np.percentile(nanoseconds, (10, 50, 90, 99)), np.max(nanoseconds))]
