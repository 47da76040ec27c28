"""Kubric clips as CoTracker prepares them, in a tiny made folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY

from taptrv2_core.training.kubric import KubricSource
from taptrv2_core.training.parallel import Workers
from taptrv2_core.training.stages import Stage
from taptrv2_core.training.trainer import Trainer, TrainOptions

FRAMES, SIZE = 10, 48
STAGE = Stage("kubric", 1, (96, 96), 8, 6, 2, 1e-4, 1e-4, contrast=0.0)


@pytest.fixture
def kubric(tmp_path: Path) -> Path:
    """Three clips of a bright 5 x 5 square that moves 2 pixels a frame; its centre is tracked, hidden in frame 3."""
    for clip in range(3):
        name = f"{clip:04d}"
        folder = tmp_path / name / "frames"
        folder.mkdir(parents=True)
        x = 8 + 2 * np.arange(FRAMES)
        y = np.full(FRAMES, 20 + clip)
        for t in range(FRAMES):
            picture = np.zeros((SIZE, SIZE, 3), np.uint8)
            if t != 3:
                picture[y[t] - 2 : y[t] + 3, x[t] - 2 : x[t] + 3] = (0, 0, 255)  # red, in OpenCV's order
            cv2.imwrite(str(folder / f"{t:03d}.png"), picture)
        coords = np.stack((np.stack((x, y), -1), np.stack((x, y - 60), -1))).astype(np.float32)  # the second is outside
        hidden = np.zeros((2, FRAMES), bool)
        hidden[0, 3] = True
        np.save(tmp_path / name / f"{name}.npy", {"coords": coords, "visibility": hidden}, allow_pickle=True)
    return tmp_path


def test_tracks_lie_on_what_they_track(kubric: Path) -> None:
    source = KubricSource(kubric, 0, torch.device("cpu"))
    assert (len(source.train), len(source.held)) == (2, 1)
    clips = source.batch(0, STAGE)
    assert clips.video.shape == (2, 8, 3, 96, 96)
    assert bool(clips.inside.all())
    assert bool(clips.visible.gather(1, clips.query_frame.unsqueeze(1)).all())
    for clip in range(2):
        for t in range(8):
            x, y = clips.xy[clip, t, 0].round().long().tolist()
            red = clips.video[clip, t, :, y, x]
            assert bool(clips.visible[clip, t, 0]) == bool(red[0] > 0.9)
            assert bool((red[1:] < 0.1).all())
            width = (clips.video[clip, t, 0] > 0.5).nonzero()
            if len(width):
                centre = width.float().mean(0).flip(0)  # the square's centre is the track, at any size
                torch.testing.assert_close(centre, clips.xy[clip, t, 0], atol=0.05, rtol=0)


def test_batches_depend_on_the_step_alone(kubric: Path) -> None:
    one, other = (KubricSource(kubric, 1, torch.device("cpu")) for _ in range(2))
    one.batch(0, STAGE)
    assert torch.equal(one.batch(5, STAGE).video, other.batch(5, STAGE).video)
    assert torch.equal(one.held_out(STAGE, 4, 24).xy, other.held_out(STAGE, 4, 24).xy)
    assert one.held_out(STAGE, 4, 24).video.shape[:2] == (1, FRAMES)


def test_the_trainer_takes_them(kubric: Path, tmp_path: Path) -> None:
    device = torch.device("cpu")
    config = replace(TINY, name="learner", channels=64, backbone="resnet50", freeze_batch_norm=True)
    options = TrainOptions((replace(STAGE, batch=1),), tmp_path / "out", config, bf16=False)
    figures = Trainer(options, Workers(0, 1, device), KubricSource(kubric, 0, device)).run()
    assert np.isfinite(figures["delta_avg"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "0000" / "frames" / "003.png").unlink(), "9 pictures and tracks of 10"),
        (lambda root: (root / "0000" / "frames" / "003.png").write_bytes(b"no"), "not a readable picture"),
        (lambda root: np.save(root / "0000" / "0000.npy", np.zeros(3)), "not a dict"),
    ],
)
def test_damaged_clips_are_named(kubric: Path, spoil: object, message: str) -> None:
    spoil(kubric)  # type: ignore[operator]
    source = KubricSource(kubric, 0, torch.device("cpu"))
    source.train = [kubric / "0000"]
    with pytest.raises(ValueError, match=message):
        source.batch(0, replace(STAGE, frames=10))
