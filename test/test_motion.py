"""Where a network that uses optical flow begins a new frame."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, tiny_model

from taptrv2_core import Taptr, Tracker, motion, track_video
from taptrv2_core.engine import SlidingWindow
from taptrv2_core.evaluation.adapter import RefinedTaptr
from taptrv2_core.flow import LONGEST_SIDE, FlowImage, follow
from taptrv2_core.geometry import inverse_sigmoid
from taptrv2_core.motion import FLOW_VARIANCE, NETWORK_VARIANCE, MotionPrior, filtered, mean_step
from taptrv2_core.synthetic import ClipConfig, ClipGenerator
from taptrv2_core.training.data import to_truth
from taptrv2_core.training.flow import imitated_flow
from taptrv2_core.training.losses import start_positions
from taptrv2_core.training.unroll import encode_clips, unroll

SIZE = TINY.input_size
SHIFT = (1.5, -0.75)


def drifting(frames: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """(T, H, W, 3) uint8: a smooth texture that moves by SHIFT a frame; its right quarter is plain grey."""
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.uniform(0, 255, (24, 24, 3)).astype(np.float32), (160, 160), interpolation=cv2.INTER_CUBIC)
    images = []
    for t in range(frames):
        move = np.float32([[1, 0, SHIFT[0] * t - 30], [0, 1, SHIFT[1] * t - 30]])
        image = cv2.warpAffine(texture, move, size[::-1], flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
        image[:, -size[1] // 4 :] = 90
        images.append(image)
    return np.stack(images)


@pytest.fixture(scope="module")
def model() -> Taptr:
    return tiny_model(dtype=torch.float64, config=replace(TINY, motion="flow"))


def test_flow_follows_texture_and_distrusts_what_leaves() -> None:
    before, after = (FlowImage.of(image, SIZE) for image in drifting(2))
    xy = np.array([[20, 30], [30, 20], [25, 0.2]], np.float32)
    moved, missed = follow(before, after, xy)
    np.testing.assert_allclose(moved[:2], xy[:2] + SHIFT, atol=0.1)
    assert (missed[:2] < 0.1).all()
    assert np.isinf(missed[2])


def test_points_without_flow_move_as_those_around() -> None:
    xy = np.array([[50, 50], [50, 90], [200, 200]], np.float32)
    steps = np.array([[4, 0], [0, 4], [100, 100]], np.float32)
    middle, beside, alone = mean_step(xy, steps, np.array([[50, 70], [50, 52], [120, 130]], np.float32))
    np.testing.assert_allclose(middle, [2, 2], atol=1e-3)
    assert beside[0] > 3 > 1 > beside[1] > 0
    assert alone.tolist() == [0, 0]
    assert mean_step(xy[:0], steps[:0], xy).tolist() == [[0, 0]] * 3


def test_where_points_begin_by_how_well_flow_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusted, at least nearly back, and lost with a trusted point around."""
    step = np.array([[2, 1], [-3, 0], [30, 30]], np.float32)
    missed = np.array([0.1, 2, np.inf], np.float32)
    monkeypatch.setattr(motion, "follow", lambda before, after, xy: (xy + step, missed))
    images = [FlowImage.of(image, SIZE) for image in drifting(2)]
    prior = MotionPrior()
    prior.enter(images[0])
    start = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.5, 0.53]], dtype=torch.float64)
    prior.add(start, age=0)
    begun = prior.enter(images[1])
    assert (begun.gain < 1).tolist() == [True, False, False]
    moved = (begun.position - start).numpy() * (SIZE[0] - 1)
    np.testing.assert_allclose(moved, [[2, 1], [-3, 0], [2, 1]], atol=0.05)


def test_large_images_are_reduced_and_pixels_still_agree() -> None:
    noise = np.random.default_rng(0).uniform(0, 255, (120, 120, 3)).astype(np.float32)
    texture = cv2.resize(noise, (1600, 1600), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    frames = [texture[y : y + 1500, x : x + 1500] for x, y in ((30, 30), (6, 42))]
    prior, images = MotionPrior(), [FlowImage.of(frame, SIZE) for frame in frames]
    assert max(images[0].grey.shape) <= LONGEST_SIDE
    prior.enter(images[0])
    start = torch.tensor([[0.4, 0.5]], dtype=torch.float64)
    prior.add(start, age=0)
    begun = prior.enter(images[1])
    moved = (begun.position - start)[0] * 1500 * (SIZE[0] - 1) / SIZE[0]
    np.testing.assert_allclose(moved.numpy(), (24, -12), atol=0.3)
    assert begun.known.tolist() == (begun.gain < 1).tolist() == [True]


def test_hidden_and_late_points_are_not_moved() -> None:
    images = [FlowImage.of(image, SIZE) for image in drifting(2)]
    prior = MotionPrior(held=2)
    prior.enter(images[0])
    prior.enter(images[0])
    start = torch.full((3, 2), 0.4, dtype=torch.float64)
    prior.add(start[:2], age=0)
    prior.answer(start[:2], torch.tensor([True, False]))
    prior.add(start[2:], age=1)
    prior.keep(torch.tensor([1, 2]))
    begun = prior.enter(images[1])
    assert torch.equal(begun.position, start[1:])
    assert begun.known.tolist() == [True, False]
    assert begun.gain.tolist() == [1, 1]


def test_an_image_of_another_size_moves_nothing() -> None:
    prior = MotionPrior()
    prior.enter(FlowImage.of(drifting(1)[0], SIZE))
    prior.add(torch.full((1, 2), 0.4), age=0)
    begun = prior.enter(FlowImage.of(drifting(1, (48, 80))[0], SIZE))
    assert begun.gain.tolist() == [1]
    assert torch.equal(begun.position, torch.full((1, 2), 0.4, dtype=torch.float32).double())


def test_flow_and_network_are_put_together_while_they_agree() -> None:
    entry = inverse_sigmoid(torch.full((4, 4), 0.5, dtype=torch.float64))
    shift = torch.tensor([[2.0, 0, 0, 0], [2, 0, 0, 0], [6, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64) / 256
    measured = inverse_sigmoid(0.5 + shift)
    gain = torch.tensor([0.25, 1, 0.25, 0.25], dtype=torch.float64).unsqueeze(-1)
    moved = (filtered(entry, measured, gain).sigmoid()[:, 0] - 0.5) * 256
    np.testing.assert_allclose(moved.numpy(), [0.5, 2, 6, 0], atol=1e-9)


def test_the_networks_share_grows_with_flows_doubt() -> None:
    """The gain, over three frames, of a point given exactly, of one the network says is elsewhere, of a hidden one."""
    images = [FlowImage.of(image, SIZE) for image in drifting(4)]
    start = torch.tensor([[0.4, 0.4], [0.4, 0.5], [0.5, 0.4]], dtype=torch.float64)
    prior = MotionPrior()
    prior.enter(images[0])
    prior.add(start, age=0)
    prior.answer(start, torch.ones(3, dtype=torch.bool))
    first = prior.enter(images[1])
    assert bool((first.variance >= FLOW_VARIANCE[0]).all()) and bool((first.gain < 0.1).all())
    elsewhere = first.position + torch.tensor([[0.0, 0], [0.1, 0], [0, 0]])
    prior.answer(elsewhere, torch.tensor([True, True, False]))
    prior.answer(elsewhere, torch.tensor([True, True, False]))  # a window may answer a frame twice
    second = prior.enter(images[2])
    after = (1 - first.gain[0]) * first.variance[0]
    added = second.variance[0] - after
    assert FLOW_VARIANCE[0] <= added < FLOW_VARIANCE[0] + 0.1 * FLOW_VARIANCE[1]
    assert second.variance[1] >= NETWORK_VARIANCE + FLOW_VARIANCE[0]
    assert second.gain[1] > 0.5
    assert second.gain[2] == 1
    torch.testing.assert_close(second.gain[:2], second.variance[:2] / (second.variance[:2] + NETWORK_VARIANCE))


def test_a_new_frame_begins_where_flow_took_the_answer(model: Taptr) -> None:
    engine = SlidingWindow(model)
    frames = torch.from_numpy(drifting(2)).permute(0, 3, 1, 2).double() / 255
    with torch.inference_mode():
        engine.push(frames[0])
        engine.add(torch.tensor([[0.4, 0.5], [0.5, 0.4]]), 0)
        engine.run()
        engine.push(frames[1])
    assert engine.state is not None
    begun = engine.state.reference[0, 1, :, :2].sigmoid() - torch.tensor([[0.4, 0.5], [0.5, 0.4]])
    np.testing.assert_allclose(begun.numpy() * (SIZE[0] - 1), [SHIFT, SHIFT], atol=0.15)


def test_stream_equals_whole_video(model: Taptr) -> None:
    frames = drifting(20)
    start = torch.tensor([0, 2, 9, 14])
    xy = torch.tensor([[20.0, 30.0], [30.0, 20.0], [25.0, 30.0], [40.0, 40.0]])
    video = torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255
    offline = track_video(model, video, start, xy)
    tracker, finals = Tracker(model), {}
    for t, image in enumerate(frames):
        finals |= {r.frame_index: r for r in tracker.step(image).refined if r.final}
        if bool((start == t).any()):
            tracker.add_points(xy[start == t].numpy())
    assert sorted(finals) == list(range(16))
    for t, final in finals.items():
        np.testing.assert_allclose(final.xy, offline.xy[t, final.ids], atol=1e-3)
        np.testing.assert_array_equal(final.visible, offline.visible[t, final.ids])


def test_refined_tracks_of_large_videos_are_the_streams(model: Taptr) -> None:
    """Flow sees the images at their own size offline as well."""
    frames = np.stack([cv2.resize(image, (160, 160), interpolation=cv2.INTER_CUBIC) for image in drifting(12)])
    xy = np.array([[50.0, 75.0], [75.0, 50.0], [60.0, 90.0]], np.float32)
    offline = RefinedTaptr(model).track(frames, np.zeros(3, np.int64), xy)
    tracker, refined = Tracker(model), {}
    for image in frames:
        refined |= {r.frame_index: r for r in tracker.step(image).refined}
        if tracker.frame_index == 0:
            tracker.add_points(xy)
    for t in range(1, 8):
        np.testing.assert_allclose(refined[t].xy, offline.xy[t], atol=1e-3)


def test_imitated_flow_is_the_motion_of_points_seen() -> None:
    clips = ClipGenerator(ClipConfig(12, 64, 64, 24, textures=4), seed=3).sample(2)
    truth = to_truth(clips)
    torch.manual_seed(0)
    flow = imitated_flow(truth)
    frames = torch.arange(12)[None, :, None]
    assert not flow[(frames <= truth.start[:, None]).expand_as(truth.visible)].any()
    steps, motion = flow.diff(dim=1), truth.position.diff(dim=1)
    seen = truth.visible[:, 1:] & truth.visible[:, :-1] & (frames[:, 1:] > truth.start[:, None])
    moved = seen & (steps != 0).any(-1)
    assert moved.sum() > 0.5 * seen.sum()
    error = ((steps - motion) * 256).norm(dim=-1)[moved]
    assert error.median() < 0.5


def test_windows_begin_where_the_flow_given_took_them(model: Taptr) -> None:
    """A flow that is exactly one more cell a frame moves the windows' entry, and nothing else changes."""
    clips = ClipGenerator(ClipConfig(12, 64, 64, 4, textures=4), seed=3).sample(1)
    truth, network = to_truth(clips), tiny_model()
    encoded, start = encode_clips(network, clips.video), start_positions(truth)
    plain = unroll(network, encoded, truth.start, start)
    still = unroll(network, encoded, truth.start, start, flow=torch.zeros(1, 12, 4, 2))
    moving = unroll(
        network, encoded, truth.start, start, flow=torch.linspace(0, 0.1, 12)[None, :, None, None].expand(1, 12, 4, 2)
    )
    for a, b, c in zip(plain, still, moving, strict=True):
        assert torch.equal(a.result.reference, b.result.reference)
        assert not torch.allclose(a.result.reference, c.result.reference)
