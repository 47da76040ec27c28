"""Keeps the node busy and troubled for minutes and watches its memory: ``make soak``.

    python -m taptrv2_ros.bench.soak --minutes 5

Two cameras whose bags loop, whose images change size and break; clients that add and remove points and ask for
nonsense; a supervisor that stops, cleans up and starts the node. Exit status 1 if the node ends, says something it
should not, or its memory grows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taptrv2_ros.bench.load import Load
from taptrv2_ros.demo.errors import DemoError
from taptrv2_ros.demo.node_process import NodeProcess

_MIB = 2**20
_ALLOWED = 24.0  # MiB; one more network in memory is about so much
_PERIOD = 0.05  # seconds between images of a camera


@dataclass(frozen=True)
class Result:
    """What a soak showed.

    Attributes:
        samples: MiB of resident memory, at regular times.
        problem: what went wrong; empty if nothing did.
        sent, tracked: images of both cameras.
    """

    samples: list[float]
    problem: str
    sent: int
    tracked: int


def soak(seconds: float, weights: str, points: int, log: Path, row_seconds: float = 60.0) -> Result:
    """Run it, printing a row every ``row_seconds``."""
    parameters: dict[str, object] = {"cameras": ["front", "rear"], "weights": weights, "max_points": 2 * points}
    problem, load = "", Load(points)
    samples: list[float] = []
    with NodeProcess({**parameters, "image_reliability": "reliable"}, log, lambda _: None) as node:
        try:
            _wait(load, node)
            print("| time | sent | tracks received | memory (MiB) | threads | camera front |")
            print("| ---: " * 5 + "| --- |")
            began = shown = time.monotonic()
            while (now := time.monotonic()) < began + seconds:
                load.beat()
                node.check()
                samples.append(_resident(node.pid))
                if now >= shown + row_seconds:
                    shown = now
                    _row(now - began, load, samples[-1], node.pid)
                time.sleep(max(0.0, now + _PERIOD - time.monotonic()))
            _row(seconds, load, samples[-1], node.pid)
        except (DemoError, RuntimeError) as error:
            problem = str(error)
        status = node.stop()
    load.close()
    if not problem:
        problem = _complaint(status, log, load)
    return Result(samples, problem, load.sent, load.received)


def judge(samples: Sequence[float]) -> str:
    """Whether memory (MiB, at regular times) settles: what is wrong, or nothing.

    Networks, buffers and the allocator's pools fill at first; after the first half nothing should be added.
    """
    grown = growth(samples)
    return f"memory grew by {grown:.0f} MiB in the second half" if grown > _ALLOWED else ""


def growth(samples: Sequence[float]) -> float:
    """Median of the last quarter minus that of the third, in MiB."""
    quarters = np.array_split(np.array(samples), 4)
    return float(np.median(quarters[3]) - np.median(quarters[2]))


def _complaint(status: int, log: Path, load: Load) -> str:
    if status:
        return f"the node ended with status {status}"
    if "Traceback" in log.read_text():
        return f"there is a traceback in {log}"
    return "" if load.received > load.sent / 20 else f"only {load.received} of {load.sent} images were tracked"


def _wait(load: Load, node: NodeProcess) -> None:
    deadline = time.monotonic() + 60
    while not load.ready():
        node.check()
        if time.monotonic() > deadline:
            raise RuntimeError("the node did not appear")
        time.sleep(0.1)


def _row(seconds: float, load: Load, resident: float, pid: int) -> None:
    camera = load.status.get("taptr: camera front", {}).get("text", "")
    threads = len(os.listdir(f"/proc/{pid}/task"))
    print(f"| {seconds:.0f} s | {load.sent} | {load.received} | {resident:.0f} | {threads} | {camera} |", flush=True)


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def main() -> int:
    """Run it and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m taptrv2_ros.bench.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--weights", default="small", help="a shipped name or a checkpoint file")
    parser.add_argument("--points", type=int, default=64, help="for each camera (default %(default)s)")
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    log = Path(tempfile.mkdtemp(prefix="taptr_soak_")) / "node.log"
    print(f"{args.minutes:g} minutes; the node's output: {log}\n")
    result = soak(60 * args.minutes, args.weights, args.points, log)
    problem = result.problem or judge(result.samples)
    print(f"\n{result.sent} images sent, {result.tracked} tracks received")
    print(f"memory: {growth(result.samples):+.1f} MiB from the third quarter to the last (medians)")
    if problem:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
