"""What training is made of: unrolled windows are the tracker's, losses reach all, clips and curricula are right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner import ALONE, LEARNER, STAGE
from tiny import TINY, tiny_model

from taptrv2_core import SMALL, Taptr
from taptrv2_core.engine import SlidingWindow
from taptrv2_core.model import MEAN, STD
from taptrv2_core.offline import track_video
from taptrv2_core.synthetic import ClipConfig, ClipGenerator, Clips
from taptrv2_core.training.ahead import AheadSource
from taptrv2_core.training.data import SyntheticSource, half_of, to_truth
from taptrv2_core.training.initial import initialise
from taptrv2_core.training.losses import Truth, start_positions
from taptrv2_core.training.report import scale
from taptrv2_core.training.stages import CURRICULA, as_json, load_stages, stage_at, total_steps
from taptrv2_core.training.step import TrainingStep, set_training_mode, settle_batch_norm
from taptrv2_core.training.unroll import encode_clips, unroll


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


def test_curricula() -> None:
    stages = CURRICULA["cpu"]
    assert stage_at(stages, 0) == (0, 0)
    assert stage_at(stages, stages[0].steps) == (1, 0)
    assert stage_at(stages, total_steps(stages)) is None


def test_stages_from_a_file(tmp_path: Path) -> None:

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


def test_losses_below_zero_are_drawn_too() -> None:
    assert scale([{"loss": 2.0, "norm": -1.0}, {"loss": 1.0, "search": 0.5}]) == "log"
    assert scale([{"loss": 2.0}, {"loss": -0.5, "refine": -0.5}]) == "linear"


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
