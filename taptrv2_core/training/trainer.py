"""The training loop: curriculum, optimizer, checkpoints, measurements, and an end in time."""

from __future__ import annotations

import copy
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor, nn

from taptrv2_core.checkpoint import save_checkpoint
from taptrv2_core.config import SMALL, ModelConfig
from taptrv2_core.synthetic import Clips
from taptrv2_core.training.ahead import AheadSource, GeneratorError, ahead
from taptrv2_core.training.data import RANK_STRIDE, ClipSource, to_truth
from taptrv2_core.training.initial import first_model
from taptrv2_core.training.optim import MovingAverage, build_optimizer, learning_rate, set_learning_rate, step_if
from taptrv2_core.training.parallel import Workers
from taptrv2_core.training.report import Log, Progress, plot
from taptrv2_core.training.stages import Stage, as_json, stage_at, total_steps
from taptrv2_core.training.state import load_state, save_state
from taptrv2_core.training.step import TrainingStep, set_training_mode, settle_batch_norm
from taptrv2_core.training.validate import measure

CLIP_NORM = {"published": 0.1}
SETTLING_BATCHES = 16
"""Batches over which batch norms' statistics are measured before they are frozen."""
BAD_STEPS = 20
"""So many steps in a row whose loss or gradient is not finite end the run."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class TrainOptions:
    """What a run is told.

    Attributes:
        stages: the curriculum.
        out: folder for log, plot, state and exported weights.
        minutes: stop, saved, before so many minutes have passed since ``began``; None: when the curriculum ends.
        began: `time.monotonic()` at the start of the program.
        resume: folder of an earlier run to go on from, exactly.
        init: weights to start from (a file or a shipped name); None: from scratch.
        bf16: autocast to bfloat16.
        generators: processes that make clips ahead of time; 0: this one makes them.
        held_out_clips, held_out_frames: what accuracy is measured on.
    """

    stages: tuple[Stage, ...]
    out: Path
    config: ModelConfig = SMALL
    minutes: float | None = None
    began: float | None = None
    resume: Path | None = None
    init: str | None = None
    seed: int = 0
    bf16: bool = True
    generators: int = 0
    log_every: int = 20
    save_minutes: float = 5.0
    measure_minutes: float = 5.0
    held_out_clips: int = 8
    held_out_frames: int = 16
    ema_decay: float = 0.999


class Trainer:
    """One run of training; `run` does it."""

    def __init__(self, options: TrainOptions, workers: Workers, source: ClipSource) -> None:
        for stage in options.stages:
            has = (stage.search > 0 and options.config.search) or (stage.refine > 0 and options.config.refine)
            if stage.beside and not has:
                raise ValueError(f"stages: {stage.name!r} trains nothing that {options.config.name!r} has")
        self.options, self.workers = options, workers
        self.began = time.monotonic() if options.began is None else options.began
        self.step = 0
        self.minutes_before = 0.0
        torch.manual_seed(options.seed)
        self.model = first_model(options.config, options.init).to(workers.device)
        cast(Any, self.model.backbone).to(memory_format=torch.channels_last)
        self.average = MovingAverage(self.model, options.ema_decay)
        self.optimizer = build_optimizer(self.model)
        if options.resume is not None:
            self._restore(load_state(options.resume))
        self.source = ahead(source, options.stages, self.step, options.generators)
        self.module = workers.wrap(TrainingStep(self.model))
        self.log = Log(options.out / "log.jsonl" if workers.leads else None)
        self._bad = 0
        self._lag = 1 if workers.device.type == "cuda" else 0
        self._verdicts: deque[tuple[int, Tensor]] = deque()
        self._signal: int | None = None
        self._recent: deque[dict[str, Tensor]] = deque(maxlen=options.log_every)
        self._held_out: tuple[tuple[int, int], Clips] | None = None
        self._slowest = self._measuring = 0.0  # seconds that a step, and the newest measurement, took
        self._text = ""

    def run(self) -> dict[str, float]:
        """Train until the curriculum ends, time is up or a signal comes; returns the last held-out figures."""
        try:
            return self._run()
        finally:
            if isinstance(self.source, AheadSource):
                self.source.close()

    def _run(self) -> dict[str, float]:
        self.options.out.mkdir(parents=True, exist_ok=True)
        progress = Progress(total_steps(self.options.stages), self.step, quiet=not self.workers.leads)
        with _signals(self._on_signal):
            if self.step == 0:
                self._measure(progress)  # what the run begins with
            saved = measured = time.monotonic()
            while (where := stage_at(self.options.stages, self.step)) is not None:
                if self.workers.any(self._signal is not None or self._time_is_up()):
                    break
                began = time.monotonic()
                text = self._train_step(*where, progress)
                self._slowest = max(0.98 * self._slowest, time.monotonic() - began)
                progress.step(text, self._minutes_left())
                now = time.monotonic()
                if now - saved > 60 * self.options.save_minutes:
                    self.save()
                    saved = time.monotonic()
                if now - measured > 60 * self.options.measure_minutes:
                    self._measure(progress)
                    measured = time.monotonic()
        self._settle_average(progress)
        self.save()
        in_time = self._signal is None and not self._time_is_up(self._measurement_needs())
        figures = self._measure(progress) if in_time else {}
        progress.close()
        return figures

    def _settle_average(self, progress: Progress) -> None:
        """Where the curriculum has ended: batch norms' statistics, of the averaged weights themselves."""
        last = self.options.stages[-1]
        ended = stage_at(self.options.stages, self.step) is None
        if not ended or last.freeze_batch_norm:
            return
        if self._signal is not None or self._time_is_up(0.5):
            progress.say("no time left for the averaged weights' batch norm: --resume with more time measures it")
            return
        videos = (self.source.batch(self.step + i, last).video for i in range(SETTLING_BATCHES))
        settle_batch_norm(self.average.model, videos, self.options.bf16)
        self.average.model.eval()

    def _train_step(self, index: int, in_stage: int, progress: Progress) -> str:
        stage = self.options.stages[index]
        try:
            clips = self.source.batch(self.step, stage)
        except GeneratorError as error:
            raise TrainingError(f"step {self.step}: {error}") from error
        torch.manual_seed((self.options.seed + RANK_STRIDE * self.workers.rank) * 2**20 + self.step)
        if (
            in_stage == 0
            and stage.freeze_batch_norm
            and not stage.beside
            and not (index and self.options.stages[index - 1].freeze_batch_norm)
        ):
            videos = (self.source.batch(self.step + i, stage).video for i in range(SETTLING_BATCHES))
            settle_batch_norm(self.model, videos, self.options.bf16)
        set_training_mode(self.model, stage.freeze_batch_norm)
        rate = learning_rate(stage, in_stage, self.step)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        loss, parts = self.module(clips.video, to_truth(clips), stage, self.options.bf16)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM.get(self.options.config.name, 1.0))
        finite = self.workers.all(torch.isfinite(norm) & torch.isfinite(loss.detach()))
        step_if(self.optimizer, finite)
        self.average.update(self.model)
        self.step += 1
        self._verdicts.append((self.step - 1, finite))
        while len(self._verdicts) > self._lag:
            self._judge(*self._verdicts.popleft(), progress)
        self._recent.append({"loss": loss.detach(), "norm": norm, **parts})
        if self.step % self.options.log_every == 0:
            self.log.write({"kind": "train", **self._when(), "stage": stage.name, "lr": rate, **self._means()})
            self._text = "  ".join(f"{name} {value:.3f}" for name, value in self._means().items())
        return f"{stage.name}: {self._text}"

    def _judge(self, step: int, finite: Tensor, progress: Progress) -> None:
        """Count the steps in a row that were left out. On a GPU it asks about the one before the step at hand, which
        is done: to ask about this one, the host would have to wait for it."""
        if bool(finite):
            self._bad = 0
            return
        self._bad += 1
        progress.say(f"step {step}: loss or gradient is not finite, step left out ({self._bad} in a row)")
        if self._bad >= BAD_STEPS:
            raise TrainingError(
                f"{BAD_STEPS} steps in a row without a finite loss, at step {step}: training has diverged. "
                f"Resume from an older state under {self.options.out / 'state'} with a lower learning rate."
            )

    def _means(self) -> dict[str, float]:
        names = self._recent[-1].keys()
        return {name: sum(float(row.get(name, 0)) for row in self._recent) / len(self._recent) for name in names}

    def _when(self) -> dict[str, Any]:
        return {"step": self.step, "minutes": self.minutes_before + (time.monotonic() - self.began) / 60}

    def _measurement_needs(self) -> float:
        """Minutes; where the clips of the stage at hand are not made yet, a minute at least."""
        where, held_out = stage_at(self.options.stages, max(self.step - 1, 0)), self._held_out
        made = where is not None and held_out is not None and held_out[0] == self.options.stages[where[0]].size
        return self._measuring / 60 if made else max(self._measuring / 60, 1.0)

    def _measure(self, progress: Progress) -> dict[str, float]:
        where = stage_at(self.options.stages, max(self.step - 1, 0))
        if not self.workers.leads or where is None:
            return {}
        stage = self.options.stages[where[0]]
        if self._held_out is None or self._held_out[0] != stage.size:
            clips = self.source.held_out(stage, self.options.held_out_clips, self.options.held_out_frames)
            self._held_out = (stage.size, clips)
        began = time.monotonic()
        figures = measure(copy.deepcopy(self.average.model).prepare(), self._held_out[1])
        self._measuring = time.monotonic() - began
        self.log.write({"kind": "held-out", **self._when(), "stage": stage.name, **figures})
        progress.say(f"step {self.step} held out: " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items()))
        plot(self.options.out / "log.jsonl", self.options.out / "curve.png")
        return figures

    def save(self) -> None:
        """Write the state, and the averaged weights as `load_model` reads them."""
        if not self.workers.leads:
            return
        state = {
            "step": self.step, "minutes": self._when()["minutes"], "seed": self.options.seed,
            "config": asdict(self.options.config), "stages": as_json(self.options.stages),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(), "average_updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        save_state(self.options.out / "state", self.step, state)
        beside = self.options.out / "weights.pt.tmp"
        save_checkpoint(self.average.model, beside)
        beside.replace(self.options.out / "weights.pt")

    def _restore(self, state: dict[str, Any]) -> None:
        if state["config"] != asdict(self.options.config):
            raise ValueError(f"resume: the state's network is {state['config']}, not {self.options.config}")
        if state["seed"] != self.options.seed:
            raise ValueError(f"resume: the state's run had seed {state['seed']}: give --seed {state['seed']}")
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.average.updates = state["average_updates"]
        fused = self.optimizer.defaults["fused"]
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["fused"] = fused  # as it is done on this device, not on the one before
        self.step, self.minutes_before = state["step"], state["minutes"]

    def _minutes_left(self) -> float | None:
        if self.options.minutes is None:
            return None
        return self.options.minutes - (time.monotonic() - self.began) / 60

    def _time_is_up(self, needed: float | None = None) -> bool:
        """Whether another step and what must be written could end too late; ``needed`` minutes otherwise."""
        left = self._minutes_left()
        if needed is None:
            needed = (2 * self._slowest + 5 + self._measuring) / 60
        return left is not None and left < needed

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number


@contextmanager
def _signals(handler: Any) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the step at hand; only the main thread may ask for that."""
    try:
        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
