"""Runs of training: something is learned, resuming is exact, states are whole or refused, mistakes are explained."""

from __future__ import annotations

import copy
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner import ALONE, LEARNER, STAGE
from tiny import tiny_model

from taptrv2_core.checkpoint import load_model, save_checkpoint
from taptrv2_core.cli import main
from taptrv2_core.errors import CheckpointError
from taptrv2_core.synthetic import Clips
from taptrv2_core.training.data import SyntheticSource
from taptrv2_core.training.stages import Stage
from taptrv2_core.training.state import load_state, save_state
from taptrv2_core.training.step import settle_batch_norm
from taptrv2_core.training.trainer import BAD_STEPS, Trainer, TrainingError, TrainOptions
from taptrv2_core.training.validate import measure


def options(out: Path, *stages: Stage, **more: object) -> TrainOptions:
    return TrainOptions(stages, out, LEARNER, bf16=False, held_out_clips=1, held_out_frames=9, **more)  # type: ignore[arg-type]


def test_training_lowers_the_held_out_error(tmp_path: Path) -> None:
    stages = (
        Stage("contrast", 25, (64, 64), 3, 24, 4, 2e-3, 2e-3, speed=(3.0, 12.0), contrast=1.0, tracking=0.0),
        replace(STAGE, steps=35, batch=2, points=24),
    )
    trainer = Trainer(options(tmp_path, *stages, ema_decay=0.9), ALONE, SyntheticSource(0, ALONE.device))
    held_out = trainer.source.held_out(STAGE, 6, 8)
    before = measure(trainer.average.model, held_out)
    trainer.run()
    after = measure(trainer.average.model, held_out)
    assert after["delta_avg"] > 1.3 * before["delta_avg"]
    rows = (tmp_path / "log.jsonl").read_text().splitlines()
    assert any('"held-out"' in row for row in rows)


class Interrupting(SyntheticSource):
    """Clips as ever, and a signal while one step's are made."""

    at = -1

    def batch(self, step: int, stage: Stage) -> Clips:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, stage)


def test_resuming_is_exact(tmp_path: Path) -> None:
    stages = (replace(STAGE, steps=2, frames=3, tracking=0.0, contrast=1.0), replace(STAGE, steps=3))
    whole = Trainer(options(tmp_path / "whole", *stages), ALONE, SyntheticSource(0, ALONE.device))
    whole.run()
    source = Interrupting(0, ALONE.device)
    source.at = 2
    Trainer(options(tmp_path / "parts", *stages), ALONE, source).run()
    assert load_state(tmp_path / "parts")["step"] == 3
    resumed = Trainer(
        options(tmp_path / "parts", *stages, resume=tmp_path / "parts"), ALONE, SyntheticSource(0, ALONE.device)
    )
    resumed.run()
    one, other = load_state(tmp_path / "whole"), load_state(tmp_path / "parts")
    assert one["step"] == other["step"] == 5
    for part in ("model", "average"):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, other[part][name]), name
    for index, row in one["optimizer"]["state"].items():
        assert torch.equal(row["exp_avg_sq"], other["optimizer"]["state"][index]["exp_avg_sq"])


def test_state_in_pieces(tmp_path: Path) -> None:
    state = {"weights": torch.rand(10_000_000), "step": 7}
    place = save_state(tmp_path, 7, state)
    sizes = [path.stat().st_size for path in place.iterdir()]
    assert len(sizes) == 4
    assert max(sizes) < 16 * 2**20
    assert torch.equal(load_state(tmp_path)["weights"], state["weights"])
    for step in (8, 9):
        save_state(tmp_path, step, {"step": step})
    (tmp_path / "step-00000010.tmp").mkdir()
    assert sorted(path.name for path in tmp_path.glob("step-*[0-9]")) == ["step-00000008", "step-00000009"]
    assert load_state(tmp_path)["step"] == 9
    (tmp_path / "step-00000009" / "piece-00.bin").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"piece-00\.bin: damaged"):
        load_state(tmp_path)
    with pytest.raises(CheckpointError, match="no training state"):
        load_state(tmp_path / "nowhere")


class Broken(SyntheticSource):
    """Clips whose pixels are not numbers."""

    def batch(self, step: int, stage: Stage) -> Clips:
        made = super().batch(step, stage)
        return replace(made, video=made.video * float("nan"))


def test_divergence_is_said_and_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = replace(STAGE, steps=100, frames=2, points=4, tracking=0.0)
    trainer = Trainer(options(tmp_path, stage), ALONE, Broken(0, ALONE.device))
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(TrainingError, match=f"{BAD_STEPS} steps in a row"):
        trainer.run()
    assert "not finite" in capsys.readouterr().out
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-minutes", "0"], "must be above 0"),
        (["--resume", "nowhere"], "no training state"),
        (["--init", "nowhere.pt"], "no such file"),
        (["--resume", "a", "--init", "b"], "give one of them"),
        (["--stages", "nothing"], "neither one of"),
        (["--data", "films"], "kubric:PATH"),
        (["--data", "kubric:nowhere"], "0 clips found"),
        (["--device", "abacus"], "not known"),
        (["--generators", "-1"], "must be 0 or more"),
    ],
)
def test_mistakes_are_explained(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", str(tmp_path / "out"), "--device", "cpu", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("what", ["search", "refine"])
def test_a_stage_for_what_stands_beside_the_network_needs_one_that_has_it(tmp_path: Path, what: str) -> None:
    stage = replace(STAGE, contrast=0.0, tracking=0.0, **{what: 1.0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'tiny' trains nothing that 'learner' has"):
        Trainer(options(tmp_path, stage), ALONE, SyntheticSource(0, ALONE.device))


def test_the_refiner_is_trained_beside_a_network_that_stays_as_it_is(tmp_path: Path) -> None:
    """Given weights without one, as those of before there was one."""
    save_checkpoint(tiny_model(config=replace(LEARNER, motion="flow")), tmp_path / "before.pt")
    stage = replace(STAGE, steps=3, frames=3, contrast=0.0, tracking=0.0, refine=1.0, freeze_batch_norm=True)
    wanted = replace(
        options(tmp_path / "run", stage, init=str(tmp_path / "before.pt")),
        config=replace(LEARNER, motion="flow", refine=True),
    )
    trainer = Trainer(wanted, ALONE, SyntheticSource(0, ALONE.device))
    first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, first[name])}
    assert changed == {f"refiner.{name}" for name, _ in trainer.model.refiner.named_parameters()}  # type: ignore[union-attr]
    assert load_model(tmp_path / "run" / "weights.pt", "cpu").config.refine


@pytest.mark.parametrize(("size", "measured"), [((64, 64), [0, 2]), ((96, 96), [0])])
def test_a_run_that_time_ends_says_what_it_began_and_ended_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], measured: list[int]
) -> None:
    """But where clips of another size would have to be made first, for which no time was kept, not the latter."""
    wanted = options(tmp_path, replace(STAGE, steps=1), replace(STAGE, steps=100_000, size=size), minutes=60)
    trainer = Trainer(wanted, ALONE, SyntheticSource(0, ALONE.device))

    def left() -> float:
        """Minutes: after two steps just enough to measure once more."""
        return 60 if trainer.step < 2 else (trainer._measuring + 1) / 60

    monkeypatch.setattr(trainer, "_minutes_left", left)
    trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "held-out"] == measured


def test_a_generator_that_fails_is_said(tmp_path: Path) -> None:
    stage = replace(STAGE, frames=0)
    trainer = Trainer(options(tmp_path, stage, generators=1), ALONE, SyntheticSource(0, ALONE.device))
    with pytest.raises(TrainingError, match="step 0: a process that makes clips failed: ValueError: ClipConfig"):
        trainer.run()


def test_the_averaged_weights_get_statistics_of_their_own_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taptrv2_core.training.trainer.SETTLING_BATCHES", 2)
    stage = replace(STAGE, steps=2, frames=3, points=4, tracking=0.0, contrast=1.0)
    trainer = Trainer(options(tmp_path, stage), ALONE, SyntheticSource(0, ALONE.device))
    trainer.run()
    expected = copy.deepcopy(trainer.average.model)
    clips = (SyntheticSource(0, ALONE.device).batch(2 + i, stage).video for i in range(2))
    settle_batch_norm(expected, clips, bf16=False)
    ours, theirs, training = (
        m.backbone[0].body.bn1.running_mean for m in (trainer.average.model, expected, trainer.model)
    )
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, training, rtol=1e-3)
    assert not trainer.average.model.training
