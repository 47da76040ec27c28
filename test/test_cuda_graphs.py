"""Padded windows, which CUDA graphs need: on the CPU they are run as they are."""

from __future__ import annotations

import warnings

import pytest
import torch
from tiny import tiny_model

from taptrv2_core import Taptr, Tracker, frame_ring
from taptrv2_core.bench.frames import moving_texture, points
from taptrv2_core.fast import cuda_graphs
from taptrv2_core.fast.cuda_graphs import NEVER, PaddedWindow, WindowGraphs
from taptrv2_core.model import Memory
from taptrv2_core.window import EVERY, Frames, Masks


@pytest.fixture(scope="module")
def model() -> Taptr:
    return tiny_model().prepare()


def ring(model: Taptr) -> Frames:
    g = torch.Generator().manual_seed(0)
    tokens = torch.randn(8, 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2, model.config.channels, generator=g)
    shapes = ((16, 16), (8, 8), (4, 4), (2, 2))
    return Frames(shapes, model.project(Memory(tokens, shapes)), torch.arange(8))


@pytest.mark.parametrize("newest_only", [True, False])
def test_padding_changes_nothing(model: Taptr, newest_only: bool) -> None:
    """Queries that began long ago and some that begin inside the window, with other numbers of them in turn."""
    frames, numbers, newest = ring(model), torch.tensor([16, 17, 18, 11, 12, 13, 14, 15]), 2
    window = PaddedWindow(model, frames, 16, newest_only)
    wanted = slice(newest, newest + 1) if newest_only else EVERY
    for count in (16, 5, 9):
        g = torch.Generator().manual_seed(count)
        content, reference = (torch.randn(1, 8, count, n, generator=g) for n in (model.config.channels, 4))
        start = torch.randint(0, 18, (1, count), generator=g)
        with torch.inference_mode():
            masks = Masks.build(numbers, start)
            expected = model.decode(content, reference, frames, masks, wanted)[-1]
            got = window(content, reference, start, numbers, newest)
        tracked = masks.updated[0, wanted, :, 0]
        assert tracked.any()
        for name in ("moved", "reference", "visibility", "hidden"):
            ours, theirs = getattr(got, name)[0][tracked], getattr(expected, name)[0][tracked]
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
            assert getattr(got, name).isfinite().all()
        assert (window.start[0, count:] == NEVER).all()


def test_a_stream_by_padded_windows_is_the_stream(model: Taptr, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a tracker's steps, with points that come and go within a padded size and beyond it."""

    def tracks() -> list[torch.Tensor]:
        tracker, images, found = Tracker(model), moving_texture((80, 96)), []
        tracker.add_points(points(10, (80, 96)))
        for step in range(22):
            if step == 10:
                tracker.add_points(points(9, (80, 96), seed=1))
            if step == 17:
                tracker.remove_points([3, 12])
            found.append(torch.from_numpy(tracker.step(next(images)).xy))
        return found

    expected = tracks()
    made = []
    monkeypatch.setattr(cuda_graphs, "usable", lambda device: True)
    monkeypatch.setattr(cuda_graphs.PaddedWindow, "__init__", _noted(cuda_graphs.PaddedWindow.__init__, made))
    for ours, theirs in zip(tracks(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)
    assert sorted(made) == [(16, False), (16, True), (64, False), (64, True)], "each size is made once"


@pytest.mark.parametrize("graphs", [False, True])
def test_layers_without_room_for_keys_and_values_give_the_same(
    model: Taptr, graphs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for both layers, for one and for none; from the first frame on, and with points of older frames."""

    def tracks() -> tuple[torch.Tensor, int]:
        tracker, images, found = Tracker(model), moving_texture((80, 96)), []
        tracker.add_points(points(5, (80, 96)))
        for step in range(14):
            if step == 10:
                tracker.add_points(points(4, (80, 96), seed=1), stamp=6)
            found.append(torch.from_numpy(tracker.step(next(images)).xy))
        return torch.cat(found), len(tracker._engine._ring.frames().key_values)

    expected, layers = tracks()
    assert layers == 2
    monkeypatch.setattr(cuda_graphs, "usable", lambda device: graphs)
    for room in (1, 0):
        layer_bytes = 2 * 8 * (16 * 16 + 8 * 8 + 4 * 4 + 2 * 2) * model.config.channels * 4
        monkeypatch.setattr(frame_ring, "MOST_BYTES", {"cpu": room * layer_bytes})
        ours, layers = tracks()
        assert layers == room
        torch.testing.assert_close(ours, expected, rtol=0, atol=2e-3)


def test_masks_as_numbers_are_the_masks() -> None:
    numbers, start = torch.arange(8), torch.tensor([[0, 3, 7, NEVER]])
    masks = Masks.build(numbers, start)
    added = masks.additive(torch.float64)
    g = torch.Generator().manual_seed(0)
    for name, shape in (("frames", (4, 8)), ("queries", (8, 4))):
        x = torch.randn(1, *shape, 6, generator=g, dtype=torch.float64)
        attend = torch.nn.functional.scaled_dot_product_attention
        expected = attend(x, x, x, attn_mask=getattr(masks, name))
        torch.testing.assert_close(attend(x, x, x, attn_mask=getattr(added, name)), expected)
    nothing = Masks.build(numbers, start, all_tracked=True).additive(torch.float64)
    assert nothing.frames is None and nothing.queries is None


def _noted(function: object, made: list[tuple[int, bool]]) -> object:
    def init(self: PaddedWindow, model: Taptr, frames: Frames, size: int, newest_only: bool) -> None:
        made.append((size, newest_only))
        function(self, model, frames, size, newest_only)  # type: ignore[operator]

    return init


def test_where_recording_fails_steps_go_on_with_one_warning(model: Taptr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "usable", lambda device: not cuda_graphs._failed)
    monkeypatch.setattr(cuda_graphs, "_failed", False)

    def fails(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(cuda_graphs.PaddedWindow, "__init__", fails)
    monkeypatch.setattr(cuda_graphs.RecordedEncoding, "__init__", fails)
    tracker, images = Tracker(model), moving_texture((80, 96))
    tracker.add_points(points(3, (80, 96)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = [tracker.step(next(images)) for _ in range(10)]
    assert len(found[-1].ids) == 3
    (warning,) = [w for w in said if "CUDA graph" in str(w.message)]
    assert "operation not permitted when stream is capturing)" in str(warning.message)


def test_not_without_a_gpu_nor_where_it_is_turned_off(model: Taptr, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not cuda_graphs.usable(torch.device("cpu"))
    assert cuda_graphs.usable(torch.device("cuda"))
    monkeypatch.setenv("TAPTRV2_CUDA_GRAPHS", "0")
    assert not cuda_graphs.usable(torch.device("cuda"))
    nothing = torch.zeros(1, 8, 2, 4)
    assert (
        WindowGraphs(model).decode(nothing, nothing, ring(model), torch.zeros(1, 2), torch.arange(8), 0, True) is None
    )
