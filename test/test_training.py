"""Training: the unrolled window is the tracker's, learning happens, resuming is exact, states are whole or refused."""

from __future__ import annotations

import copy
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY, tiny_model

from taptrv2_core import SMALL, Taptr
from taptrv2_core.checkpoint import load_model, save_checkpoint
from taptrv2_core.cli import main
from taptrv2_core.engine import SlidingWindow
from taptrv2_core.errors import CheckpointError
from taptrv2_core.model import MEAN, STD
from taptrv2_core.offline import track_video
from taptrv2_core.synthetic import ClipConfig, ClipGenerator, Clips
from taptrv2_core.training.ahead import AheadSource
from taptrv2_core.training.data import SyntheticSource, half_of, to_truth
from taptrv2_core.training.initial import initialise
from taptrv2_core.training.losses import Truth, start_positions
from taptrv2_core.training.parallel import Workers
from taptrv2_core.training.report import scale
from taptrv2_core.training.stages import CURRICULA, Stage, as_json, load_stages, stage_at, total_steps
from taptrv2_core.training.state import load_state, save_state
from taptrv2_core.training.step import TrainingStep, set_training_mode, settle_batch_norm
from taptrv2_core.training.trainer import BAD_STEPS, Trainer, TrainingError, TrainOptions
from taptrv2_core.training.unroll import encode_clips, unroll
from taptrv2_core.training.validate import measure

ALONE = Workers(0, 1, torch.device("cpu"))
LEARNER = replace(TINY, name="learner", channels=64)
STAGE = Stage("tiny", 6, (64, 64), 8, 16, 1, 1e-3, 1e-4, speed=(1.0, 6.0), provisional=1)


def options(out: Path, *stages: Stage, **more: object) -> TrainOptions:
    return TrainOptions(stages, out, LEARNER, bf16=False, held_out_clips=1, held_out_frames=9, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clips() -> Clips:
    return ClipGenerator(ClipConfig(16, 64, 64, 12, first_frame_share=0.3), seed=3).sample(2)


def clip_of(clips: Clips, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    frames = clips.query_frame[index]
    return clips.video[index], frames, clips.xy[index, frames, torch.arange(len(frames))]


def test_committing_windows_equal_the_offline_tracker(clips: Clips) -> None:
    model = tiny_model()
    truth = to_truth(clips)
    windows = unroll(model, encode_clips(model, clips.video), truth.start, start_positions(truth))
    assert [(window.first, window.commits) for window in windows] == [(0, True), (4, True), (8, True)]
    for index in range(2):
        tracks = track_video(model, *clip_of(clips, index))
        for window in windows:
            kept = (
                window.frames.stop - window.first if window is windows[-1] else 4
            )  # the next window replaces the rest
            updated = window.updated[index, :kept]
            expected = tracks.boxes[window.first : window.first + kept]
            got = window.result.reference[index, :kept].sigmoid()
            torch.testing.assert_close(got * updated, expected * updated, atol=2e-5, rtol=0)


def test_provisional_windows_equal_the_stream(clips: Clips) -> None:
    model = tiny_model()
    truth = to_truth(clips)
    start = start_positions(truth)
    windows = unroll(model, encode_clips(model, clips.video), truth.start, start, range(16))
    newest = {window.frames.stop - 1: window for window in windows}
    engine, order = SlidingWindow(model), []
    with torch.inference_mode():
        for t, image in enumerate(clips.video[0]):
            engine.push(image)
            new = (truth.start[0] == t).nonzero().flatten().tolist()
            if new:
                engine.add(start[0, new], t)
                order += new
            result = engine.commit() if engine.commits else engine.run()
            if t not in newest or result is None:
                continue
            updated = newest[t].updated[0, -1, order]
            got = newest[t].result.position[0, -1, order]
            torch.testing.assert_close(got * updated, result.position[0, t % 8] * updated, atol=2e-5, rtol=0)


def test_a_fresh_network_follows_its_attention() -> None:
    """What `initialise` promises: the position update's weights are the softmax of the attention logits."""
    model = Taptr(SMALL)
    initialise(model)
    layer = model.transformer.decoder.layers[0]
    logits = torch.randn(5, SMALL.samples)
    with torch.no_grad():
        weights = layer.caupdate_weight_regressor(layer.caupdate_weight_normalizer(logits))
    correlation = torch.corrcoef(torch.stack((weights.flatten(), logits.flatten())))[0, 1]
    assert correlation > 0.9
    with pytest.raises(ValueError, match="too few"):
        initialise(Taptr(TINY))


def test_loss_reaches_every_parameter(clips: Clips) -> None:
    torch.manual_seed(0)
    model = Taptr(LEARNER).train()
    for head in model.bbox_embed:
        torch.nn.init.normal_(head.layers[-1].weight, std=0.1)
    torch.nn.init.normal_(model.transformer.encoder.layers[0].self_attn.attention_weights.weight, std=0.1)
    loss, parts = TrainingStep(model)(clips.video, to_truth(clips), replace(STAGE, frames=16), False)
    loss.backward()
    assert set(parts) == {"contrast", "moved", "boxed", "visibility"}
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


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


def test_curricula() -> None:
    stages = CURRICULA["cpu"]
    assert stage_at(stages, 0) == (0, 0)
    assert stage_at(stages, stages[0].steps) == (1, 0)
    assert stage_at(stages, total_steps(stages)) is None


def test_stages_from_a_file(tmp_path: Path) -> None:
    import json

    path = tmp_path / "stages.json"
    path.write_text(json.dumps(as_json(CURRICULA["gpu"])))
    assert load_stages(str(path)) == CURRICULA["gpu"]
    row = as_json(CURRICULA["gpu"])[0]
    for change, words in (
        ({"size": [128]}, "size"), ({"steps": "many"}, "steps"), ({"colour": 1}, "unknown"), ({"batch": 0}, "batch")
    ):  # fmt: skip
        path.write_text(json.dumps([{**row, **change}]))
        with pytest.raises(ValueError, match=words):
            load_stages(str(path))


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


def test_truth_is_in_the_networks_coordinates(clips: Clips) -> None:
    truth: Truth = to_truth(clips)
    torch.testing.assert_close(truth.position * 63, clips.xy)


def test_batch_norm_is_measured_before_it_is_frozen(clips: Clips) -> None:
    model = Taptr(LEARNER).train()
    settle_batch_norm(model, [clips.video[:1], clips.video[1:]], bf16=False)
    first = model.backbone[0].body.bn1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    frames = ((clips.video[:, ::3] - mean) / std).flatten(0, 1)
    with torch.no_grad():
        expected = torch.nn.functional.conv2d(frames, model.backbone[0].body.conv1.weight, stride=2, padding=3)
    torch.testing.assert_close(first.running_mean, expected.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert first.momentum == 0.1
    set_training_mode(model, freeze_batch_norm=True)
    before = first.running_mean.clone()
    model.encode(clips.video[0])
    assert torch.equal(before, first.running_mean)


@pytest.mark.parametrize("what", ["search", "refine"])
def test_a_stage_for_what_stands_beside_the_network_needs_one_that_has_it(tmp_path: Path, what: str) -> None:
    stage = replace(STAGE, contrast=0.0, tracking=0.0, **{what: 1.0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'tiny' trains nothing that 'learner' has"):
        Trainer(options(tmp_path, stage), ALONE, SyntheticSource(0, ALONE.device))


def test_losses_below_zero_are_drawn_too() -> None:
    assert scale([{"loss": 2.0, "norm": -1.0}, {"loss": 1.0, "search": 0.5}]) == "log"
    assert scale([{"loss": 2.0}, {"loss": -0.5, "refine": -0.5}]) == "linear"


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


def test_clips_made_ahead_are_the_sources_own() -> None:
    stages = (replace(STAGE, steps=3, batch=2), replace(STAGE, steps=2, frames=4))
    source = SyntheticSource(0, ALONE.device)
    made = AheadSource(SyntheticSource(0, ALONE.device), stages, 1, 2)
    try:
        for step in (1, 2, 2, 4, 3, 4):  # also again, and out of their order
            stage = stages[0] if step < 3 else stages[1]
            ours, theirs = made.batch(step, stage), source.batch(step, stage)
            for name in ("video", "xy", "visible", "inside", "query_frame"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name)), (step, name)
    finally:
        made.close()
    assert not any(process.is_alive() for process in made._processes)


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


def test_clips_are_used_twice_the_second_time_mirrored() -> None:
    source = SyntheticSource(0, ALONE.device)
    first, second, third = (source.batch(step, STAGE) for step in (4, 5, 6))
    assert torch.equal(first.video, second.video.flip(-1))
    assert not torch.equal(first.video, third.video)
    assert first.xy.shape == second.xy.shape
    assert not torch.equal(first.xy[..., 1], second.xy[..., 1])
    again = source.batch(5, STAGE)
    assert torch.equal(again.xy, second.xy)
    # both are right: a visible point's colour, where it is not disturbed, is its query's
    plain = ClipGenerator(ClipConfig(2, 64, 64, 200, photometric=False, antialias=False), seed=1).sample(1)
    for half in (half_of(plain, False), half_of(plain, True)):
        x, y = (half.xy[0, :, :, i].round().long().clamp(0, 63) for i in (0, 1))
        colours = torch.stack([half.video[0, t][:, y[t], x[t]] for t in range(2)])
        both = half.visible[0].all(0)
        assert float((colours[0] - colours[1]).abs().mean(0)[both].median()) < 0.03


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
