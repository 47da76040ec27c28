"""Clips made ahead of time by processes of their own, while the network trains on the ones before.

Laying out scenes and starting many small kernels keeps a processor busy for as long as a GPU needs for a training step;
done in the training process, the GPU would wait for it. The clips are those that the source itself would give.
"""

from __future__ import annotations

import queue
import signal
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, multiprocessing

from taptrv2_core.synthetic import Clips
from taptrv2_core.training.data import ClipSource, SyntheticSource
from taptrv2_core.training.stages import Stage, stage_at, total_steps

AHEAD = 2
"""Batches a process keeps ready."""
PATIENCE = 1.0
"""Seconds between looks at whether the other side is still alive."""


class GeneratorError(RuntimeError):
    """A process that makes clips failed; the message has its reason."""


@dataclass(frozen=True)
class _Recipe:
    """What process ``number`` of ``count`` makes: the batches of its steps from ``first`` on."""

    seed: int
    device: torch.device
    stages: tuple[Stage, ...]
    first: int
    number: int
    count: int


class AheadSource:
    """A `SyntheticSource` whose batches are made by ``processes`` processes on the same device, in the order of steps.

    A step asked for out of that order is made on the spot. `close` ends the processes; they also end by themselves
    when this process is gone.
    """

    def __init__(self, source: SyntheticSource, stages: Sequence[Stage], step: int, processes: int) -> None:
        self._source, self._next, self._end = source, step, total_steps(stages)
        self._newest: tuple[int, Clips] | None = None
        self._receiver = ThreadPoolExecutor(1)  # uploads the next batch beside the step at hand
        self._coming: Future[Clips] | None = None
        context = multiprocessing.get_context("spawn")
        self._queues: list[Any] = []
        self._processes: list[Any] = []
        for i in range(processes):
            ready = context.Queue(AHEAD)
            recipe = _Recipe(source.seed, source.device, tuple(stages), step, i, processes)
            process = context.Process(target=_work, args=(recipe, ready), daemon=True, name=f"clips {i}")
            process.start()
            self._queues.append(ready)
            self._processes.append(process)

    def batch(self, step: int, stage: Stage) -> Clips:
        """See `ClipSource.batch`. Raises GeneratorError where a process failed."""
        if self._newest is not None and self._newest[0] == step:
            return self._newest[1]
        if step != self._next or step >= self._end:
            return self._source.batch(step, stage)
        clips = (self._coming or self._receiver.submit(self._receive, step)).result()
        self._next, self._newest = step + 1, (step, clips)
        if step + 1 < self._end:
            self._coming = self._receiver.submit(self._receive, step + 1)
        return clips

    def held_out(self, stage: Stage, clips: int, frames: int) -> Clips:
        """See `ClipSource.held_out`."""
        return self._source.held_out(stage, clips, frames)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._receiver.shutdown(cancel_futures=True)

    def _receive(self, step: int) -> Clips:
        index = _maker(step, len(self._queues))
        item: Any = None
        while item is None:
            try:
                item = self._queues[index].get(timeout=PATIENCE)
            except queue.Empty:
                code = self._processes[index].exitcode
                if code is not None:
                    raise GeneratorError(f"a process that makes clips ended with code {code}") from None
        if isinstance(item, str):
            raise GeneratorError(f"a process that makes clips failed: {item}")
        return _unpacked(item, self._source.device)


def ahead(source: ClipSource, stages: Sequence[Stage], step: int, processes: int) -> ClipSource:
    """The source, made ahead by so many processes if it is one that can be."""
    if processes < 1 or not isinstance(source, SyntheticSource):
        return source
    return AheadSource(source, stages, step, processes)


def _work(recipe: _Recipe, ready: Any) -> None:
    """The process: batches into the queue until the curriculum or the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)
    try:
        source = SyntheticSource(0, recipe.device)
        source.seed = recipe.seed
        step = recipe.first
        while (where := stage_at(recipe.stages, step)) is not None:
            mine = _maker(step, recipe.count) == recipe.number
            if mine and not _put(ready, _packed(source.batch(step, recipe.stages[where[0]]))):
                return
            step += 1
        while _parent_lives():  # which still reads the last batches from this process
            time.sleep(PATIENCE)
    except Exception as error:
        reason = traceback.format_exception_only(type(error), error)[-1].strip()
        _put(ready, reason)


def _maker(step: int, processes: int) -> int:
    """Which process makes a step's batch: two steps running share their clips."""
    return step // 2 % processes


def _parent_lives() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def _put(ready: Any, item: Any) -> bool:
    """Wait for a free place; false when the parent is gone."""
    while _parent_lives():
        try:
            ready.put(item, timeout=PATIENCE)
            return True
        except queue.Full:
            continue
    return False


def _packed(clips: Clips) -> tuple[Tensor, ...]:
    """In host memory; the video as bytes, which is what the generator rounds it to."""
    video = (clips.video * 255).round_().to(torch.uint8)
    return tuple(t.cpu() for t in (video, clips.xy, clips.visible, clips.inside, clips.query_frame))


def _unpacked(tensors: Sequence[Tensor], device: torch.device) -> Clips:
    """On the device, but for the query frames: the trainer looks at their numbers."""
    video, xy, visible, inside, query_frame = tensors
    pixels = video.to(device).float().div_(255)
    return Clips(pixels, xy.to(device), visible.to(device), inside.to(device), query_frame)
