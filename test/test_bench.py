"""`taptr bench` on tiny sizes: what it prints and writes; what its contenders compute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import sliding_bag
from tiny import tiny_model

from taptrv2_core import Tracker
from taptrv2_core.bench import recordings
from taptrv2_core.bench.contenders import contenders, tracker_of
from taptrv2_core.bench.frames import moving_texture, points
from taptrv2_core.bench.parts import PARTS, part_medians
from taptrv2_core.bench.recordings import ALONE
from taptrv2_core.bench.timing import repeat, summary
from taptrv2_core.cli import bench, main
from taptrv2_core.fast import cuda_graphs
from taptrv2_core.ops import active_backend


def test_table_and_json(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speed.json"
    words = ["bench", "--model", str(weights), "--points", "5", "--image-size", "96x80", "--frames", "4"]
    assert main([*words, "--threads", "1", "--device", "cpu", "--only", "lk", "reference", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "OpenCV LK, forward and back" in printed
    assert "frames/s" in printed
    result = json.loads(file.read_text())
    assert result["machine"]["torch"] == torch.__version__
    assert result["machine"]["threads"] == 1
    assert result["settings"]["image"] == "96x80"
    lk, ours = result["steps"]
    for row in (lk, ours):
        assert row["points"] == 5
        assert row["frames"] == 4
        assert 0 < row["least"] <= row["p50"] <= row["p90"] <= row["p99"]
    assert set(ours["parts"]) == set(PARTS)
    assert 0 < sum(ours["parts"].values()) < 20 * ours["p50"]
    assert {row["ops"] for row in result["ops"]} >= {"reference"}


def test_whole_runs_beside_the_tracker_alone(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a bag, and on images that are generated."""
    pytest.importorskip("av")
    monkeypatch.setattr(recordings, "in_own_process", lambda function, *given: function(*given))  # starts in no time
    words = ["bench", "--model", str(weights), "--device", "cpu", "--threads", "1", "--points", "3", "--offline"]
    bag, file = sliding_bag(tmp_path / "slide", 12), tmp_path / "speed.json"
    assert main([*words, str(bag), "--repeats", "2", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["settings"]["recording"] == str(bag)
    alone, without_overlay, *_ = rows = result["offline"]
    assert [row["name"] for row in rows] == [
        ALONE,
        "taptr track --no-overlay",
        "taptr track",
        "taptr track --streaming",
    ]
    for row in rows:
        assert len(row["runs"]) == 2 and min(row["runs"]) <= row["images/s"] <= max(row["runs"])
        assert row["below"] == pytest.approx(1 - row["images/s"] / alone["images/s"])
    assert f"| {without_overlay['images/s']:8.1f} |" in capsys.readouterr().out
    assert main([*words[:-1], "--image-size", "96x80", "--frames", "9", "--repeats", "1", "--offline"]) == 0
    assert "image 96x80" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "nothing.mcap")]) == 2
    assert "nothing.mcap: no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plain", "plain-kv"])
def test_recomputing_gives_the_same_tracks(name: str) -> None:
    """The slow peers do the same work, only more often."""
    contender = contenders(torch.device("cpu"), fused=False)[name]
    slow = tracker_of(contender, tiny_model().prepare(), (80, 96), 6)
    slow.active = True  # type: ignore[attr-defined]
    fast = Tracker(tiny_model().prepare())
    fast.add_points(points(6, (80, 96)))
    images = moving_texture((80, 96))
    for _ in range(10):
        image = next(images)
        np.testing.assert_allclose(slow.step(image).xy, fast.step(image).xy, atol=1e-3)
    projected = []
    real = slow.model.project_into
    slow.model.project_into = lambda *given: projected.append(real(*given))  # type: ignore[method-assign]
    encoded = []
    encode = slow.model.encode
    slow.model.encode = lambda image: encoded.append(1) or encode(image)  # type: ignore[method-assign,func-returns-value]
    slow.step(next(images))
    assert len(projected) == 8
    assert len(encoded) == (8 if name == "plain" else 1)


def test_parts_are_the_whole(weights: Path) -> None:
    model = tiny_model().prepare()
    tracker = tracker_of(contenders(torch.device("cpu"), fused=False)["reference"], model, (80, 96), 4)
    images = moving_texture((80, 96))
    for _ in range(3):
        tracker.step(next(images))
    parts = part_medians(model, lambda: tracker.step(next(images)), 5)
    assert list(parts) == list(PARTS)
    assert all(value > 0 for value in parts.values())
    assert not model.transformer.decoder._forward_hooks


def test_no_parts_of_steps_that_are_graphs(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "usable", lambda device: True)
    monkeypatch.setattr(bench, "in_own_process", lambda function, *given: function(*given))
    file = tmp_path / "speed.json"
    words = ["bench", "--model", str(weights), "--points", "3", "--image-size", "96x80", "--frames", "3", "--no-ops"]
    assert main([*words, "--threads", "1", "--device", "cpu", "--only", "reference", "--json", str(file)]) == 0
    assert "No parts of steps that are CUDA graphs" in capsys.readouterr().out
    (row,) = json.loads(file.read_text())["steps"]
    assert row["parts"] == {}


def test_frames_move_and_have_texture() -> None:
    images = moving_texture((120, 160))
    first, second = next(images), next(images)
    assert first.shape == (120, 160, 3)
    assert first.dtype == np.uint8
    assert first.std() > 20
    moved = [
        np.abs(first[8:-8, 8:-8].astype(int) - np.roll(second, (dy, 0), (0, 1))[8:-8, 8:-8]).mean() for dy in (0, 2)
    ]
    assert moved[1] < 0.5 * moved[0]


def test_timing_stops_in_time_but_not_before_three_calls() -> None:
    cpu = torch.device("cpu")
    assert len(repeat(lambda: None, 7, 10.0, cpu)) == 7
    assert len(repeat(lambda: None, 10**9, 0.0, cpu)) == 3
    expected = {"p50": 2.0, "p90": 7.6, "p99": 8.86, "mean": 4.0, "least": 1.0}
    assert summary([1.0, 2.0, 9.0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nobody"], "--model nobody: neither a file nor one of"),
        (["--points", "0"], "--points 0: must be at least 1"),
        (["--json", "/nowhere/at/all.json"], "the folder /nowhere/at does not exist"),
    ],
)
def test_what_the_user_can_put_right(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 1
    assert message in capsys.readouterr().err


def test_it_starts_without_opencv(project_root: Path) -> None:
    """A machine with a GPU on loan may have torch and numpy only."""
    program = "import sys; sys.modules['cv2'] = None; import taptrv2_core.cli.bench"
    subprocess.run([sys.executable, "-c", program], cwd=project_root, check=True, timeout=120)


def test_half_is_offered_where_there_are_fused_ops_and_a_reason() -> None:
    names = contenders(torch.device("cuda"), fused=True)
    assert names["half"].dtype == "float16"
    assert "half" not in contenders(torch.device("cpu"), fused=False)
    assert ("fused" in contenders(torch.device("cpu"), active_backend("cpu") == "fused")) == (
        active_backend("cpu") == "fused"
    )
