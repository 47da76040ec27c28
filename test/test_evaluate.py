"""Our tracker as a method of the evaluation, the evaluation's tables, and ``taptr evaluate``."""

from __future__ import annotations

import csv
import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import tiny_model

from taptrv2_core import Taptr, save_checkpoint
from taptrv2_core.cli import COMMANDS, main
from taptrv2_core.evaluation.adapter import RefinedTaptr, StreamingTaptr, evaluate_model
from taptrv2_core.evaluation.baselines import LucasKanade, NeverMoves
from taptrv2_core.evaluation.datasets import load_frames_folder
from taptrv2_core.evaluation.generated import synthetic_dataset
from taptrv2_core.evaluation.report import as_dict, breakdown_table, metrics_table
from taptrv2_core.evaluation.runner import evaluate
from taptrv2_core.evaluation.samples import Sample, make_sample
from taptrv2_core.evaluation.support import WithSupport
from taptrv2_core.evaluation.tracking import Floats, Ints, TrackResult, Video

FRAMES, HEIGHT, WIDTH = 12, 48, 80
STEP = (2.0, 1.0)


@pytest.fixture(scope="module")
def model() -> Taptr:
    return tiny_model()


def moving_sample(name: str = "moving", query_mode: str = "first") -> Sample:
    """A smooth texture that moves by STEP pixels a frame; three tracks, seen from frames 0, 0 and 5."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)
    video = np.stack([texture[30 - t : 30 - t + HEIGHT, 60 - 2 * t : 60 - 2 * t + WIDTH] for t in range(FRAMES)])
    first = np.array([[20, 15], [40, 20], [10, 10]], np.float32)
    xy = first[:, None] + np.arange(FRAMES)[None, :, None] * np.array(STEP, np.float32)
    visible = np.ones((3, FRAMES), bool)
    visible[2, :5] = False
    return make_sample(name, video, xy.astype(np.float32), visible, None, query_mode)  # type: ignore[arg-type]


class Perfect:
    """Knows the answer."""

    name = "perfect"

    def __init__(self, sample: Sample) -> None:
        self.sample = sample

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        return TrackResult(self.sample.gt_xy, self.sample.gt_visible)


def test_methods_are_ranked_as_they_should_be() -> None:
    sample = moving_sample()
    perfect, lk, still = evaluate([Perfect(sample), LucasKanade(window=11), NeverMoves()], [sample])
    assert perfect.mean.average_jaccard == perfect.mean.delta_avg == perfect.mean.occlusion_accuracy == 1.0
    assert lk.mean.delta_avg > 0.95
    assert still.mean.delta_avg < 0.5
    assert still.mean.median_error > 10
    assert lk.frames == FRAMES
    assert lk.frames_per_second > 0


def test_strided_queries_are_tracked_both_ways() -> None:
    sample = moving_sample(query_mode="strided")
    (lk,) = evaluate([LucasKanade(window=11)], [sample])
    assert lk.mean.within_2 > 0.95  # of all frames, those before the queries included
    assert lk.frames == 2 * FRAMES


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no videos"):
        evaluate([NeverMoves()], [])


def test_streaming_and_refined_agree_where_a_window_commits(model: Taptr) -> None:
    """Frame 11 is the newest of a committing window and the video's last: both outputs are that window's."""
    sample = moving_sample()
    given = (sample.video, sample.query_frame, sample.query_xy)
    streaming, refined = StreamingTaptr(model).track(*given), RefinedTaptr(model).track(*given)
    np.testing.assert_allclose(streaming.xy[11], refined.xy[11], atol=1e-4)
    np.testing.assert_array_equal(streaming.visible[11], refined.visible[11])
    # A tiny random network moves points; before the last window the stream knew less than the refinement.
    assert np.abs(refined.xy[11] - sample.query_xy).max() > 0.5
    assert np.abs(streaming.xy[8] - refined.xy[8]).max() > 1e-3
    for result in (streaming, refined):
        np.testing.assert_array_equal(result.xy[:6, 2], np.repeat(sample.query_xy[2:], 6, 0))
        assert result.visible[5, 2]
        assert not result.visible[:5, 2].any()


def test_streaming_never_sees_the_future(model: Taptr) -> None:
    sample = moving_sample()
    whole = StreamingTaptr(model).track(sample.video, sample.query_frame, sample.query_xy)
    begun = StreamingTaptr(model).track(sample.video[:9], sample.query_frame, sample.query_xy)
    np.testing.assert_allclose(whole.xy[:9], begun.xy, atol=1e-4)


def test_queries_a_little_outside_the_image_are_taken_at_its_edge(model: Taptr) -> None:
    video = moving_sample().video
    outside = np.array([[-3.0, 10.0], [WIDTH + 2.0, 10.0]], np.float32)
    for tracker in (StreamingTaptr(model), RefinedTaptr(model)):
        result = tracker.track(video, np.zeros(2, np.int64), outside)
        assert np.isfinite(result.xy).all()
        np.testing.assert_array_equal(result.xy[0], outside)


class Listening:
    """Keeps what it is asked, and says that every point never moves."""

    name = "listening"

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        self.frame, self.xy = query_frame, query_xy
        return NeverMoves().track(video, query_frame, query_xy)


def test_support_queries_fill_up_and_are_not_scored() -> None:
    sample, inner = moving_sample(), Listening()
    given = (sample.video, sample.query_frame, sample.query_xy)
    result = WithSupport(inner, 40).track(*given)
    assert result.xy.shape == (FRAMES, 3, 2) and result.visible.shape == (FRAMES, 3)
    assert inner.frame.shape == (40,) and inner.xy.shape == (40, 2)
    np.testing.assert_array_equal(inner.xy[:3], sample.query_xy)
    assert set(inner.frame[3:].tolist()) == {0, 5}  # where real ones are given, so that these have company
    assert ((inner.xy >= -0.5) & (inner.xy <= (WIDTH - 0.5, HEIGHT - 0.5))).all()
    assert np.ptp(inner.xy[3:], axis=0).min() > 30
    support = inner.xy
    WithSupport(inner, 40).track(*given)
    np.testing.assert_array_equal(inner.xy, support)
    WithSupport(inner, 2).track(*given)  # more real ones than that: none are added, none left out
    assert len(inner.frame) == 3


def test_support_queries_keep_the_real_ones_company(model: Taptr) -> None:
    sample = moving_sample()
    given = (sample.video, sample.query_frame, sample.query_xy)
    for tracker in (StreamingTaptr(model), RefinedTaptr(model)):
        alone, accompanied = tracker.track(*given), WithSupport(tracker, 20).track(*given)
        np.testing.assert_array_equal(alone.xy[0], accompanied.xy[0])
        assert np.abs(alone.xy - accompanied.xy).max() > 1e-3


def test_evaluate_model_for_a_training_log(model: Taptr) -> None:
    samples = [moving_sample("a"), moving_sample("b")]
    model.train()
    for refined in (False, True):
        figures = evaluate_model(model, samples, refined)
        method = (RefinedTaptr if refined else StreamingTaptr)(model)
        assert model.training
        model.eval()
        (direct,) = evaluate([method], samples)
        model.train()
        for name in ("average_jaccard", "delta_avg", "occlusion_accuracy"):
            assert figures[name] == pytest.approx(getattr(direct.mean, name))
        assert figures["delta_avg/16-32 px"] == pytest.approx(direct.groups["16-32 px"].shares()["delta_avg"])
        assert all(np.isfinite(list(figures.values())))
    model.eval()


def test_tables_have_a_row_a_method_and_leave_out_empty_groups() -> None:
    results = evaluate([NeverMoves(), LucasKanade()], [moving_sample()])
    lines = metrics_table(results).splitlines()
    assert lines[0].split()[:4] == ["method", "AJ", "delta_avg", "OA"]
    assert lines[2].startswith("never moves")
    assert f"{results[0].mean.average_jaccard:.3f}" in lines[2]
    assert len({len(line) for line in lines}) == 1
    groups = breakdown_table(results)
    assert "> 32 px" in groups
    assert "hidden" not in groups  # the third track is hidden before its query only
    assert as_dict(results)["never moves"]["groups"]["hidden"]["delta_avg"] is None


def test_generated_clips_are_the_same_on_every_call_and_fit_their_tracks() -> None:
    def clips() -> list[Sample]:
        return list(synthetic_dataset(clips=2, frames=6, size=64, points=16).samples)

    first, again = clips(), clips()
    assert len(first) == 2
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.video, b.video)
        np.testing.assert_array_equal(a.gt_xy, b.gt_xy)
        points = np.arange(16)
        assert a.gt_visible[a.query_frame, points].all()
        np.testing.assert_array_equal(a.query_xy, a.gt_xy[a.query_frame, points])
        assert a.known[a.gt_visible].all()
        assert a.scored.all()
    assert (first[0].video != first[1].video).any()


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
    assert main(["evaluate", "davis", str(davis), "--model", str(weights), "--device", "cpu", *files]) == 0
    out = capsys.readouterr().out
    for method in ("never moves", "OpenCV LK", "taptr streaming", "taptr refined"):
        assert out.count(method) == 4  # the metrics, delta_avg by group, visibility by group, as in papers
    rows = [line.split() for line in out.splitlines()]
    assert ["TAP-Vid", "DAVIS,", "first", "AJ", "<delta_avg", "OA"] in rows
    assert ["TAPTRv2,", "as", "published", "63.5", "75.9", "91.4"] in rows
    assert "frames: 256 x 256" in out
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
        (["davis", "{}", "--support", "-1"], "--support -1: must be 0 or more"),
        (["davis", "{}", "--synthetic"], "not both"),
        (["--synthetic", "--query", "strided"], "--query strided"),
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


def test_command_in_its_own_process(davis: Path) -> None:
    words = [sys.executable, "-m", "taptrv2_core.cli", "evaluate", "davis", str(davis), "--model", "none"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "OpenCV LK" in done.stdout
    assert "Traceback" not in done.stderr


def test_baselines_on_the_labelled_house(shared_data: Path) -> None:
    """The figures these baselines are known to reach there: a check of metrics, loader and LK together."""
    for resize, lk_delta in ((False, 0.836), (True, 0.773)):
        sample = load_frames_folder(shared_data / "house", resize=resize)
        still, lk = evaluate([NeverMoves(), LucasKanade()], [sample])
        assert still.mean.delta_avg == pytest.approx(0.238, abs=0.002)
        assert lk.mean.delta_avg == pytest.approx(lk_delta, abs=0.02)
