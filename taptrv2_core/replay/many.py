"""Many recordings, each a job in a worker process: one that fails, or crashes its worker, stops no other."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol

import torch

from taptrv2_core.errors import CheckpointError, MissingPackageError
from taptrv2_core.replay.evaluate import Stop, evaluate_recording
from taptrv2_core.replay.job import Job, Outcome

ERROR_FILE = "error.txt"
INTERRUPTED = "not evaluated: interrupted"
_POLL = 0.2  # seconds


@dataclass(frozen=True)
class Result:
    """What came of one job: an outcome, or why there is none."""

    job: Job
    outcome: Outcome | None
    error: str = ""


class Runner(Protocol):
    """Where jobs run."""

    def run(self, jobs: Sequence[Job], stop: Stop) -> Iterator[Result]:
        """The results of all jobs, each as soon as it is there, in any order.

        ``stop`` is asked now and then. Once it says so, jobs in work end with what they have, and no other begins.
        """
        ...


def run_job(job: Job, stop: Stop) -> Outcome | str:
    """A job, or in one line why it failed; of what nobody foresaw the traceback is in its folder."""
    try:
        return evaluate_recording(job, stop=stop)  # no progress: many workers would write over each other
    except (ValueError, OSError, CheckpointError, MissingPackageError) as error:
        return one_line(error)
    except Exception as error:
        with suppress(OSError):
            job.out.mkdir(parents=True, exist_ok=True)
            (job.out / ERROR_FILE).write_text(traceback.format_exc(), encoding="utf-8")
        kind = type(error).__name__
        return f"{kind}: {one_line(error)} (a fault of this program; see {job.out / ERROR_FILE})"


def local_devices(device: str, threads: int, workers: int | None = None) -> list[str]:
    """One device a worker: all GPUs, or the CPU as often as it has cores for ``threads`` each.

    Args:
        device: "auto", "cpu", "cuda" (all of them), or one, such as "cuda:1".
        threads: CPU threads of a worker.
        workers: so many, in turns on the devices; None: one a GPU, or as many as the cores allow.
    """
    if device in ("auto", "cuda") and torch.cuda.is_available():
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    elif device in ("auto", "cpu"):
        devices = ["cpu"] * max(1, len(os.sched_getaffinity(0)) // max(threads, 1))
    else:
        devices = [device]
    return devices if workers is None else [devices[i % len(devices)] for i in range(workers)]


class LocalProcesses:
    """Worker processes on this machine, one a device given."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._workers: set[int] = set()

    @property
    def workers(self) -> set[int]:
        """Ids of the processes that are at work."""
        return set(self._workers)

    def run(self, jobs: Sequence[Job], stop: Stop) -> Iterator[Result]:
        """See ``Runner``."""
        for job in jobs:
            self._jobs.put(job)
        # A thread a worker process: a process that dies takes its own pool of one with it, and no other.
        with ThreadPoolExecutor(len(self._devices), "worker") as threads:
            for device in self._devices[: len(jobs)]:
                threads.submit(self._work, device)
            try:
                for _ in jobs:
                    yield self._next(stop)
            except BaseException:  # whoever wants the results does not want to wait
                self._end_workers(signal.SIGKILL)
                raise

    def _next(self, stop: Stop) -> Result:
        while True:
            try:
                return self._results.get(timeout=_POLL)
            except queue.Empty:
                if stop() and not self._stopping.is_set():
                    self._end_workers(signal.SIGINT)

    def _end_workers(self, how: signal.Signals) -> None:
        self._stopping.set()
        for process in self.workers:
            with suppress(ProcessLookupError):
                os.kill(process, how)

    def _work(self, device: str) -> None:
        """In a thread: jobs until there are none, in worker processes one after another."""
        # Held back in the processes begun from here too, until they can deal with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _heed_interrupts) as pool:
                    while self._run_in(pool, job, device):
                        job = self._jobs.get_nowait()

    def _run_in(self, pool: ProcessPoolExecutor, job: Job, device: str) -> bool:
        """Run one job; False if the process is of no use any more."""
        if self._stopping.is_set():
            self._results.put(Result(job, None, INTERRUPTED))
            return True
        worker = 0
        try:
            worker = pool.submit(os.getpid).result()
            self._workers.add(worker)
            if self._stopping.is_set():  # while it was started
                answer: Outcome | str = INTERRUPTED
            else:
                answer = pool.submit(_run_here, replace(job, device=device)).result()
        except BrokenProcessPool:
            died = "its worker process died: it crashed, was killed, or memory ran out"
            self._results.put(Result(job, None, INTERRUPTED if self._stopping.is_set() else died))
            return False
        except Exception as error:  # the answer could not be sent, for instance
            answer = one_line(error)
        finally:
            self._workers.discard(worker)
        self._results.put(Result(job, None, answer) if isinstance(answer, str) else Result(job, answer))
        return True


_interrupted = threading.Event()  # in a worker process


def _run_here(job: Job) -> Outcome | str:
    return run_job(job, _interrupted.is_set)


def _heed_interrupts() -> None:
    """In a new worker process: the terminal's Ctrl-C, or the one passed on, ends its job in good order."""

    def handle(number: int, frame: FrameType | None) -> None:
        _interrupted.set()

    signal.signal(signal.SIGINT, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def one_line(error: Exception) -> str:
    """What an error says, without the lines that explain it."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
