"""The same jobs on a cluster: Ray chooses the machines, and repeats what a lost machine took with it."""

from __future__ import annotations

import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from taptrv2_core.extras import optional
from taptrv2_core.replay.evaluate import Stop
from taptrv2_core.replay.job import Job, Outcome
from taptrv2_core.replay.many import INTERRUPTED, Result, one_line, run_job
from taptrv2_core.tracking_run.workspace import PARTIAL

_POLL = 0.5  # seconds
RETRIES = 2  # of a job whose worker or machine was lost


class RayCluster:
    """Jobs as Ray tasks. Every machine needs this package, and sees recordings, points and weights at the same paths.

    Args:
        address: of the cluster, as ``ray.init`` takes it; "local" starts one on this machine, "auto" finds a running
            one.
        device: "auto" (a GPU for each job if the cluster has any), "cpu" or "cuda".
        threads: CPU threads of a job.
    """

    def __init__(self, address: str, device: str, threads: int) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"--device {device}: on a cluster Ray chooses the GPU; give auto, cpu or cuda")
        self._ray = optional("ray", "ray", "evaluating on a cluster")
        _check_reachable(address)
        try:
            self._ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError, self._ray.exceptions.RayError) as error:
            raise ValueError(f"--ray {address}: no Ray cluster can be reached there: {error}") from error
        gpus = self._ray.cluster_resources().get("GPU", 0) > 0
        self._device = ("cuda" if gpus else "cpu") if device == "auto" else device
        self._threads = threads
        self.description = (
            f"Ray, {len(self._ray.nodes())} machines, {self._ray.cluster_resources().get('CPU', 0):.0f} CPUs, "
            f"{self._ray.cluster_resources().get('GPU', 0):.0f} GPUs"
        )

    def run(self, jobs: Sequence[Job], stop: Stop) -> Iterator[Result]:
        """See ``Runner``."""
        needs = {"num_cpus": max(self._threads, 1), "num_gpus": int(self._device == "cuda")}
        task = self._ray.remote(max_retries=RETRIES, **needs)(run_elsewhere)
        pending = {task.remote(replace(job, device=self._device)): job for job in jobs}
        stopped = False
        while pending:
            ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=_POLL)
            for reference in ready:
                yield self._result(reference, pending.pop(reference))
            if stop() and not stopped:
                stopped = True
                for reference in pending:
                    self._ray.cancel(reference)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def _result(self, reference: Any, job: Job) -> Result:
        try:
            answer, files = self._ray.get(reference)
        except self._ray.exceptions.TaskCancelledError:
            return Result(job, None, INTERRUPTED)
        except self._ray.exceptions.RayError as error:
            return Result(job, None, f"its worker died on the cluster, {1 + RETRIES} times in all: {one_line(error)}")
        for name, content in files.items():
            (job.out / name).parent.mkdir(parents=True, exist_ok=True)
            (job.out / name).write_bytes(content)
        if isinstance(answer, str):
            return Result(job, None, answer)
        return Result(job, answer.moved(job.out / PARTIAL if answer.problem else job.out))


def _check_reachable(address: str) -> None:
    """Ray itself tries for many minutes. Raises ValueError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ValueError(f"--ray {address}: nothing answers there: {error}") from error


@contextmanager
def _cancelled() -> Iterator[Stop]:
    """Whether Ray was asked to cancel the task, which it tells its process as Ctrl-C would."""
    came = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def run_elsewhere(job: Job) -> tuple[Outcome | str, dict[str, bytes]]:
    """On the machine that Ray chose: the job, and its files, which may have no place there."""
    with tempfile.TemporaryDirectory(prefix="taptr_") as folder:
        here = Path(folder) / "results"
        with _cancelled() as stop:
            answer = run_job(replace(job, out=here), stop)
        files = {str(f.relative_to(here)): f.read_bytes() for f in sorted(here.rglob("*")) if f.is_file()}
    if isinstance(answer, str):
        answer = answer.replace(str(here), str(job.out))
    return answer, files
