"""Keeps the node busy and troubled for minutes and watches its memory: ``make soak``.

    python -m taptrv2_ros.bench.soak --minutes 5

Two cameras whose bags loop, whose images change size and break; clients that add and remove points and ask for
nonsense; a supervisor that pauses the node, cleans it up and configures it again. Exit status 1 if the node ends, says
something it should not, or its memory grows (`taptrv2_ros.bench.memory`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from taptrv2_ros.bench.load import Load
from taptrv2_ros.bench.memory import Round, RoundsOfMemory, judge, summary
from taptrv2_ros.demo.errors import DemoError
from taptrv2_ros.demo.node_process import NodeProcess
from taptrv2_ros.own_domain import use_own_domain

_PERIOD = 0.05  # seconds between images of a camera


@dataclass(frozen=True)
class Result:
    """What a soak showed.

    Attributes:
        rounds: memory, from each configuration to its clean-up.
        problem: what went wrong; empty if nothing did.
        sent, tracked: images of both cameras.
    """

    rounds: list[Round]
    problem: str
    sent: int
    tracked: int


class Soak:
    """One run.

    Args:
        parameters: of the node.
        points: for each camera.
        round_images: of each camera between two clean-ups.
        log: the node's output goes there.
    """

    def __init__(self, parameters: dict[str, object], points: int, round_images: int, log: Path) -> None:
        names = {"cameras": ["front", "rear"], "max_points": 2 * points, "image_reliability": "reliable"}
        self._log = log
        self._load = Load(points, round_images, self._end_round)
        self._node = NodeProcess({**names, **parameters}, log, lambda _: None)
        self._memory = RoundsOfMemory(self._node.pid)
        self._began = time.monotonic()

    def run(self, seconds: float, rounds: int = 0) -> Result:
        """Work for so long, and for so many rounds at least, printing a row a round."""
        load, problem = self._load, ""
        with self._node as node:
            try:
                self._wait()
                print("| time | sent | tracks received | tracking (MiB) | peak (MiB) | cleaned up (MiB) | threads |")
                print("| ---: " * 7 + "|")
                self._began = time.monotonic()
                while (now := time.monotonic()) < self._began + seconds or len(self._memory.rounds) < rounds:
                    load.beat()
                    node.check()
                    self._memory.sample()
                    time.sleep(max(0.0, now + _PERIOD - time.monotonic()))
            except (DemoError, RuntimeError) as error:
                problem = str(error)
            status = node.stop()
        load.close()
        return Result(self._memory.rounds, problem or self._complaint(status), load.sent, load.received)

    def _end_round(self) -> None:
        """The node has been cleaned up."""
        memory = self._memory.end_round()
        threads = len(os.listdir(f"/proc/{self._node.pid}/task"))
        print(
            f"| {time.monotonic() - self._began:.0f} s | {self._load.sent} | {self._load.received} "
            f"| {memory.tracking:.0f} | {memory.most:.0f} | {memory.cleaned:.0f} | {threads} |",
            flush=True,
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while not self._load.ready():
            self._node.check()
            if time.monotonic() > deadline:
                raise RuntimeError("the node did not appear")
            time.sleep(0.1)

    def _complaint(self, status: int) -> str:
        if status:
            return f"the node ended with status {status}"
        if "Traceback" in self._log.read_text():
            return f"there is a traceback in {self._log}"
        sent, received = self._load.sent, self._load.received
        return "" if received > sent / 20 else f"only {received} of {sent} images were tracked"


def main() -> int:
    """Run it and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m taptrv2_ros.bench.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--weights", default="small", help="a shipped name or a checkpoint file")
    parser.add_argument("--points", type=int, default=64, help="for each camera (default %(default)s)")
    parser.add_argument("--round", type=int, default=400, metavar="N", help="images of a camera between two clean-ups")
    args = parser.parse_args()
    use_own_domain()
    log = Path(tempfile.mkdtemp(prefix="taptr_soak_")) / "node.log"
    print(f"{args.minutes:g} minutes; the node's output: {log}\n")
    result = Soak({"weights": args.weights}, args.points, args.round, log).run(60 * args.minutes)
    print(f"\n{result.sent} images sent, {result.tracked} tracks received")
    print(summary(result.rounds))
    problem = result.problem or judge(result.rounds)
    if problem:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
