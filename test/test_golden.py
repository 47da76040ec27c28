"""The published network's stored outputs."""

from __future__ import annotations

import json
from pathlib import Path

import golden_inputs
import numpy as np
import pytest
import torch

from taptrv2_core import PUBLISHED, Taptr, load_model, track_video
from taptrv2_core.engine import SlidingWindow

GOLDEN = Path(__file__).parent / "golden"
SHAPES = json.loads((GOLDEN / "state_dict_shapes.json").read_text())
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(golden_inputs.tensor(name, shape)) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def model(state: dict[str, torch.Tensor]) -> Taptr:
    model = Taptr(PUBLISHED).eval()
    model.load_state_dict(state)
    return model


def test_state_dict_is_the_published_one() -> None:
    ours = {name: list(tensor.shape) for name, tensor in Taptr(PUBLISHED).state_dict().items()}
    assert ours == SHAPES


@pytest.fixture(scope="module")
def loaded(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Taptr:
    """The network as a user gets it from a checkpoint file: prepared to run fast."""
    path = tmp_path_factory.mktemp("weights") / "taptrv2.pth"
    torch.save({"ema_model": {f"module.{name}": value for name, value in state.items()}, "model": {}}, path)
    return load_model(path, device="cpu")


def test_published_checkpoint_loads(loaded: Taptr, state: dict[str, torch.Tensor]) -> None:
    assert loaded.trained
    assert loaded.dtype == torch.float32
    assert loaded.config == PUBLISHED
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("case", ["square_one_window", "square_three_windows", "long_video"])
def test_stored_outputs(loaded: Taptr, case: str) -> None:
    stored = np.load(GOLDEN / f"{case}.npz")
    frames, height, width, count, last_start, seed = (
        int(stored[key]) for key in ("frames", "height", "width", "queries", "last_start", "seed")
    )
    video = torch.from_numpy(golden_inputs.video(frames, height, width, seed))
    start, position = (torch.from_numpy(a) for a in golden_inputs.queries(count, frames, last_start, seed))
    xy = position * torch.tensor([width - 1.0, height - 1.0])

    tracks = track_video(loaded, video, start, xy, takeover_interval=max(1, frames // 24))

    assert np.abs(tracks.boxes.numpy() - stored["boxes"]).max() < TOLERANCE
    assert np.abs(tracks.visibility_logits.numpy() - stored["visibility_logits"]).max() < TOLERANCE
    assert torch.equal(tracks.visible, tracks.visibility_logits[..., 1].sigmoid() > 0.5)
    np.testing.assert_allclose(tracks.xy, tracks.boxes[..., :2] * torch.tensor([width - 1.0, height - 1.0]), atol=1e-3)
    with torch.inference_mode():
        memory = torch.stack([loaded.encode(image[None]).tokens[0] for image in video])
    assert np.abs(memory[:, ::97, :8].numpy() - stored["memory_sample"]).max() < TOLERANCE


@pytest.mark.parametrize("case", ["square_one_window", "square_three_windows", "long_video"])
def test_first_window_hidden(model: Taptr, case: str) -> None:
    stored = np.load(GOLDEN / f"{case}.npz")
    frames, height, width, count, last_start, seed = (
        int(stored[key]) for key in ("frames", "height", "width", "queries", "last_start", "seed")
    )
    video = torch.from_numpy(golden_inputs.video(frames, height, width, seed))[:8]
    start, position = (torch.from_numpy(a) for a in golden_inputs.queries(count, frames, last_start, seed))
    engine = SlidingWindow(model)
    order = []
    with torch.inference_mode():
        for t, image in enumerate(video):
            engine.push(image)
            rows = (start == t).nonzero().flatten().tolist()
            if rows:
                engine.add(position[rows], t)
                order += rows
        result = engine.run()
    assert result is not None
    hidden, expected = result.hidden[0, ..., ::16].numpy(), stored["first_window_hidden"][:, order]
    tracked = np.arange(8)[:, None] >= start[order].numpy()
    assert tracked.any()
    assert np.abs(hidden - expected)[tracked].max() < TOLERANCE
