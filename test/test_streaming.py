"""Streaming equals the offline procedure, frame by frame, whatever happens in mid-stream."""

from __future__ import annotations

import gc

import numpy as np
import offline_procedure
import pytest
import torch
from tiny import TINY, tiny_model

from taptrv2_core import Taptr, Tracker, track_video
from taptrv2_core.geometry import inverse_sigmoid

SIZE = TINY.input_size


@pytest.fixture(scope="module")
def model() -> Taptr:
    return tiny_model(dtype=torch.float64)


def images(frames: int, seed: int = 0) -> np.ndarray:
    """(T, H, W, 3) uint8: a smooth random texture that drifts."""
    rng = np.random.default_rng(seed)
    texture = np.kron(rng.uniform(0, 255, (32, 40, 3)), np.ones((4, 4, 1)))
    return np.stack([texture[t : t + SIZE[0], 2 * t : 2 * t + SIZE[1]] for t in range(frames)]).astype(np.uint8)


def as_video(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255


def queries(count: int, last: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, last + 1, count))
    return torch.from_numpy(start), torch.from_numpy(rng.uniform(4, SIZE[0] - 5, (count, 2)))


@pytest.mark.parametrize("g", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9, 12, 15, 23])
def test_offline_function_is_the_published_procedure(model: Taptr, frames: int, g: int) -> None:
    video = as_video(images(frames))
    start, xy = queries(6, last=frames - 1)
    reference, visibility = offline_procedure.track(model, video, start, xy / (SIZE[0] - 1), g)

    tracks = track_video(model, video, start, xy, takeover_interval=g)

    torch.testing.assert_close(inverse_sigmoid(tracks.boxes), inverse_sigmoid(reference.sigmoid()), atol=1e-9, rtol=0)
    torch.testing.assert_close(tracks.visibility_logits, visibility, atol=1e-9, rtol=0)
    moved = (tracks.xy[-1] - xy).norm(dim=-1)[start < frames - 1]
    assert frames < 3 or moved.max() > 1


@pytest.mark.parametrize("g", [1, 2])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-3), (torch.float32, 2e-2)])
def test_committed_stream_equals_offline(g: int, dtype: torch.dtype, atol: float) -> None:
    """Final results of a stream, points joining in mid-stream, are the offline ones (pixels; the stream hands out
    float32, and float32 networks differ by rounding). Points also join at frames 7 and 11, whose windows had just
    committed: the state of all later frames knows of them, but what was handed out for frames 0 to 7 cannot."""
    model = tiny_model(dtype=dtype)
    frames = images(28)
    start, xy = torch.tensor([0, 2, 3, 7, 11, 14, 20]), queries(7, last=20)[1]
    offline = track_video(model, as_video(frames).to(dtype), start, xy, takeover_interval=g)

    tracker = Tracker(model, takeover_interval=g)
    finals = {}
    for t, image in enumerate(frames):
        tracks = tracker.step(image)
        finals |= {r.frame_index: r for r in tracks.refined if r.final}
        if bool((start == t).any()):
            tracker.add_points(xy[start == t].numpy())

    assert sorted(finals) == list(range(24))
    for t, final in finals.items():
        np.testing.assert_allclose(final.xy, offline.xy[t, final.ids], atol=atol if t > 7 else 0.05)
        np.testing.assert_array_equal(final.visible, offline.visible[t, final.ids])
        assert set(final.ids) == set((start <= t).nonzero().flatten().tolist())


def test_provisional_answer_is_the_offline_result_of_the_video_so_far(model: Taptr) -> None:
    frames = images(19)
    start, xy = queries(5, last=0)
    tracker = Tracker(model)
    tracker.add_points(xy.numpy())
    for t, image in enumerate(frames):
        tracks = tracker.step(image)
        so_far = track_video(model, as_video(frames[: t + 1]), start, xy)
        np.testing.assert_allclose(tracks.xy, so_far.xy[-1], atol=1e-3)


def test_provisional_windows_leave_the_state_alone(model: Taptr) -> None:
    tracker = Tracker(model)
    tracker.add_points([(20.0, 30.0), (40.0, 10.0)])
    for t, image in enumerate(images(11)):
        before = tracker._engine.state
        tracker.step(image)
        if t > 7:
            assert torch.equal(tracker._engine.state.later_reference, before.later_reference)


def test_removal_is_as_if_the_point_had_ended(model: Taptr) -> None:
    """After a removal the others go on as a stream in which they are alone from there on; before it nothing changes."""
    frames = images(20)
    with_third, without = Tracker(model), Tracker(model)
    for tracker in (with_third, without):
        tracker.add_points([(20.0, 30.0), (40.0, 10.0)])
    (third,) = with_third.add_points([(33.0, 33.0)])
    for image in frames[:10]:
        a, b = with_third.step(image), without.step(image)
    assert not np.allclose(a.xy[:2], b.xy)  # query attention: company matters
    with_third.remove_points([third])
    for image in frames[10:]:
        a, b = with_third.step(image), without.step(image)
        assert a.ids.tolist() == b.ids.tolist() == [0, 1]
    state = with_third._engine.state
    assert state is not None
    assert state.content.shape[2] == 2


def test_point_added_at_a_held_frame(model: Taptr) -> None:
    """A click on an older image starts there: its committed track is that of the same point given in time."""
    frames = images(16)
    late, prompt = Tracker(model), Tracker(model)
    for t, image in enumerate(frames[:12]):
        for tracker in (late, prompt):
            tracker.step(image, stamp=1000 + t)
            if t == 8 and tracker is prompt:
                prompt.add_points([(30.0, 30.0)])
            if t == 10 and tracker is late:
                late.add_points([(30.0, 30.0)], stamp=1008)
                assert late.queries().frame_index.tolist() == [8]
    a, b = late.step(frames[12]), prompt.step(frames[12])
    np.testing.assert_array_equal(a.xy, b.xy)
    np.testing.assert_array_equal(a.visibility, b.visibility)


def test_memory_is_flat_over_600_frames() -> None:
    """Tensors alive, and their bytes, are the same after 600 frames as after 8."""

    def alive() -> tuple[int, int]:
        gc.collect()
        tensors = [o for o in gc.get_objects() if isinstance(o, torch.Tensor) and not o.is_mkldnn]
        return len(tensors), sum(t.untyped_storage().nbytes() for t in tensors)

    tracker = Tracker(tiny_model())
    tracker.add_points([(x, y) for x in (10.0, 30.0, 50.0) for y in (10.0, 30.0)])
    frames = images(24)
    sizes = []
    for t in range(600):
        tracker.step(frames[t % 24], stamp=t)
        if t in (11, 299, 599):
            sizes.append(alive())
        if t % 50 == 20:
            tracker.remove_points([tracker.add_points([(22.0, 22.0)])[0]])
    assert sizes[0] == sizes[1] == sizes[2]
    assert len(tracker._stamps) == 8
    assert len(tracker._answers.last_seen()) == 6
