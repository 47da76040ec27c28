"""``taptr evaluate`` and the ``taptr`` command itself."""

from __future__ import annotations

import csv
import importlib
import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moving import HEIGHT, WIDTH, moving_sample
from tiny import tiny_model

from taptrv2_core import Taptr, save_checkpoint
from taptrv2_core.cli import COMMANDS, main
from taptrv2_core.evaluation.baselines import LucasKanade, NeverMoves
from taptrv2_core.evaluation.tracking import Floats, Ints, TrackResult, Video


@pytest.fixture(scope="module")
def model() -> Taptr:
    return tiny_model()


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    samples = {name: moving_sample(name) for name in ("goat", "judo")}
    size = np.array([WIDTH - 1, HEIGHT - 1])
    videos = {
        name: {"video": s.video, "points": s.gt_xy.swapaxes(0, 1) / size, "occluded": ~s.gt_visible.T}
        for name, s in samples.items()
    }
    (tmp_path / "tapvid_davis.pkl").write_bytes(pickle.dumps(videos))
    return tmp_path


def test_command_with_own_checkpoint_csv_and_json(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Taptr
) -> None:
    weights = tmp_path / "tiny.pt"
    save_checkpoint(model, weights)
    files = ["--csv", str(tmp_path / "v.csv"), "--json", str(tmp_path / "m.json")]
    network = ["--model", str(weights), "--device", "cpu", "--input-size", "48"]
    assert main(["evaluate", "davis", str(davis), *network, *files]) == 0
    out = capsys.readouterr().out
    for method in ("never moves", "OpenCV LK", "taptr streaming", "taptr refined"):
        assert out.count(method) == 4  # the metrics, delta_avg by group, visibility by group, as in papers
    rows = [line.split() for line in out.splitlines()]
    assert ["TAP-Vid", "DAVIS,", "first", "AJ", "<delta_avg", "OA"] in rows
    assert ["TAPTRv2,", "as", "published", "63.5", "75.9", "91.4"] in rows
    assert "frames: 256 x 256" in out
    assert "input: 48 x 48" in out
    with (tmp_path / "v.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["method"]) for row in rows[:3]] == [
        ("goat", "never moves"), ("judo", "never moves"), ("goat", "OpenCV LK"),
    ]  # fmt: skip
    report = json.loads((tmp_path / "m.json").read_text())
    assert (report["dataset"], report["videos"], report["queries"]) == ("TAP-Vid DAVIS", 2, "first")
    assert set(report["methods"]) == {"never moves", "OpenCV LK", "taptr streaming", "taptr refined"}
    lk = [float(row["delta_avg"]) for row in rows if row["method"] == "OpenCV LK"]
    assert report["methods"]["OpenCV LK"]["delta_avg"] == pytest.approx(np.mean(lk), abs=1e-5)


def test_command_with_support_queries(davis: Path, tmp_path: Path, model: Taptr) -> None:
    weights = tmp_path / "tiny.pt"
    save_checkpoint(model, weights)
    figures = []
    for support in ("0", "30"):
        file = tmp_path / f"{support}.json"
        words = ["evaluate", "davis", str(davis), "--model", str(weights), "--output", "streaming", "--device", "cpu"]
        assert main([*words, "--support", support, "--clips", "1", "--json", str(file)]) == 0
        report = json.loads(file.read_text())
        figures.append(report["methods"]["taptr streaming"]["median_error"])
    assert report["support_queries"] == "up to 30 in all"
    assert figures[0] != figures[1]


@pytest.mark.parametrize(
    ("dataset", "file", "published"),
    [
        ("kinetics", "0000_of_0010.pkl", "49.7 64.2 85.7"),
        ("rgb-stacking", "tapvid_rgb_stacking.pkl", "53.4 70.5 81.2"),
        ("robotap", "robotap_split0.pkl", "60.9 74.6 87.7"),
    ],
)
def test_command_knows_the_papers_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, file: str, published: str
) -> None:
    sample = moving_sample()
    points = sample.gt_xy.swapaxes(0, 1) / np.array([WIDTH - 1, HEIGHT - 1])
    entry = {"video": sample.video, "points": points, "occluded": ~sample.gt_visible.T}
    (tmp_path / file).write_bytes(pickle.dumps({"a": entry} if dataset == "robotap" else [entry]))
    assert main(["evaluate", dataset, str(tmp_path), "--model", "none"]) == 0
    assert f"as published {published}" in " ".join(capsys.readouterr().out.split())


def test_command_strided_at_256_with_baselines_only(davis: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "davis", str(davis), "--query", "strided", "--protocol", "tapvid", "--model", "none"]
    assert main([*words, "--clips", "1"]) == 0
    out = capsys.readouterr().out
    assert "videos: 1, queries: strided, support queries: none, frames: 256 x 256" in out
    assert "as published 66.4 78.8 91.3" in " ".join(out.split())
    assert "taptr" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["davis", "{}/nowhere"], "Get it from https://"),
        ([], "give --synthetic, or a dataset and its path"),
        (["davis"], "taptr evaluate davis FOLDER. Get it from https://storage.googleapis.com"),
        (["davis", "{}", "--support", "-1"], "--support -1: must be at least 0"),
        (["davis", "{}", "--synthetic"], "not both"),
        (["--synthetic", "--query", "strided"], "--query strided"),
        (["davis", "{}", "--input-size", "16"], "input_size is (16, 16); height and width must be at least 32"),
        (["davis", "{}", "--clips", "0"], "--clips 0: must be at least 1"),
        (["davis", "{}", "--csv", "{}/no/folder.csv"], "the folder {}/no does not exist"),
        (["davis", "{}", "--model", "{}/none.pt"], "{}/none.pt: no such file"),
        (["davis", "{}", "--model", "none", "--no-baselines"], "nothing to evaluate"),
    ],
)
def test_command_says_what_is_wrong(
    davis: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["evaluate", *(word.replace("{}", str(davis)) for word in words)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("taptr evaluate: ")
    assert message.replace("{}", str(davis)) in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_two_functions(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"taptr {command}" in capsys.readouterr().out
    assert callable(importlib.import_module(COMMANDS[command].module).run)


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "measure accuracy on videos with ground truth" in capsys.readouterr().out


def interrupt_during(method: type[NeverMoves] | type[LucasKanade], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while this method is on the first video."""

    def interrupted(self: Any, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        signal.raise_signal(signal.SIGINT)
        return track(self, video, query_frame, query_xy)

    track = method.track
    monkeypatch.setattr(method, "track", interrupted)


@pytest.mark.parametrize(
    ("method", "clips", "whole", "rows"),
    [(NeverMoves, 1, 0, ["never moves"]), (LucasKanade, 2, 1, ["never moves", "OpenCV LK"])],
)
def test_interrupted_command_prints_and_writes_what_it_has(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    method: type[NeverMoves] | type[LucasKanade], clips: int, whole: int, rows: list[str],
) -> None:  # fmt: skip
    interrupt_during(method, monkeypatch)
    words = ["evaluate", "davis", str(davis), "--model", "none", "--clips", str(clips)]
    assert main([*words, "--csv", str(tmp_path / "v.csv")]) == 130
    captured = capsys.readouterr()
    assert f"interrupted after {whole} of {clips} videos" in captured.err and "videos: 1" in captured.out
    with (tmp_path / "v.csv").open() as file:
        assert [(row["video"], row["method"]) for row in csv.DictReader(file)] == [("goat", name) for name in rows]


def test_a_command_interrupted_before_any_result_says_so(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def interrupted() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    monkeypatch.setattr("taptrv2_core.cli.evaluate.first_interrupt", interrupted)
    words = ["evaluate", "davis", str(davis), "--model", "none", "--csv", str(tmp_path / "v.csv")]
    assert main(words) == 130
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.endswith("taptr evaluate: interrupted after 0 of 2 videos\n")
    assert not (tmp_path / "v.csv").exists()


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_a_file_that_cannot_be_written_is_named(davis: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    assert main(["evaluate", "davis", str(davis), "--model", "none", option, "/dev/full"]) == 1
    assert "/dev/full" in capsys.readouterr().err.splitlines()[-1]


def test_command_in_its_own_process(davis: Path) -> None:
    words = [sys.executable, "-m", "taptrv2_core.cli", "evaluate", "davis", str(davis), "--model", "none"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "OpenCV LK" in done.stdout
    assert "Traceback" not in done.stderr
