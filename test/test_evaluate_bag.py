"""Recordings through the tracker and judged: ``taptr evaluate-bag``."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from recorded import HEIGHT, STEP, WIDTH, sliding_bag, sliding_video, stamped_bag
from tiny import tiny_model

from taptrv2_core import Taptr, Tracker, load_model, save_checkpoint
from taptrv2_core.cli import main
from taptrv2_core.evaluation.metrics import tapvid_metrics
from taptrv2_core.evaluation.tracking import TrackResult
from taptrv2_core.replay.truth import load_truth

FRAMES = 20
POINTS = ((0, 30.0, 20.0), (0, 50.5, 40.0), (3, 20.0, 30.0))
"""Frame, x, y."""


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sliding_bag(tmp_path_factory.mktemp("bags") / "slide", FRAMES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny network that is inclined to call points visible."""
    model = tiny_model()
    for head in model.class_embed:
        head.bias[1] += 1.5
    file = tmp_path_factory.mktemp("weights") / "tiny.pt"
    save_checkpoint(model, file)
    return file


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("queries") / "points.csv"
    file.write_text("frame,x,y\n" + "".join(f"{t},{x},{y}\n" for t, x, y in POINTS))
    return file


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same points; the second is hidden from frame 15 on."""
    file = tmp_path_factory.mktemp("truth") / "truth.csv"
    rows = ["frame,id,x,y,visible"]
    for i, (start, x, y) in enumerate(POINTS):
        for t in range(start, FRAMES):
            seen = int(i != 1 or t < 15)
            rows.append(f"{t},{i},{x + STEP[0] * (t - start)},{y + STEP[1] * (t - start)},{seen}")
    file.write_text("\n".join(rows))
    return file


def words(bag: Path, weights: Path, out: Path, *more: object) -> list[str]:
    return ["evaluate-bag", str(bag), "--model", str(weights), "--device", "cpu", "--out", str(out), *map(str, more)]


def plain_tracks(model: Taptr) -> tuple[np.ndarray, np.ndarray]:
    """What a live user gets: (T, N, 2) and (T, N), written out."""
    tracker = Tracker(model)
    xy = np.array([[(x, y) for _, x, y in POINTS]] * FRAMES, np.float32)
    visible = np.zeros((FRAMES, len(POINTS)), bool)
    for t, image in enumerate(sliding_video(FRAMES)):
        tracks = tracker.step(image)
        xy[t, tracks.ids], visible[t, tracks.ids] = tracks.xy, tracks.visible
        for i, (start, x, y) in enumerate(POINTS):
            if start == t:
                assert tracker.add_points([(x, y)]) == [i]
                visible[t, i] = True
    return xy, visible


@pytest.fixture(scope="module")
def judged(bag: Path, weights: Path, queries: Path, truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results."""
    out = tmp_path_factory.mktemp("judged")
    assert main(words(bag, weights, out, "--queries", queries, "--ground-truth", truth, "--stretch", 8)) == 0
    return out


def test_figures_are_those_of_the_trackers_own_answers(judged: Path, weights: Path) -> None:
    report = json.loads((judged / "metrics.json").read_text())
    assert (report["recording"], report["images"], report["points"], report["complete"]) == ("slide", 20, 3, True)
    assert (report["dtype"], report["device"], report["weights"]) == ("float32", "cpu", "tiny.pt")
    xy, visible = plain_tracks(load_model(weights, device="cpu"))
    start = np.array([t for t, _, _ in POINTS])
    time = np.arange(FRAMES)[:, None]
    true_xy = np.array([(x, y) for _, x, y in POINTS]) + (time - start)[..., None] * np.array(STEP)
    true_visible = (time >= start) & ~((np.arange(3) == 1) & (time >= 15))
    expected = tapvid_metrics(
        TrackResult(xy, visible), true_xy.astype(np.float32), true_visible, start, (HEIGHT, WIDTH)
    )
    found = report["figures"]["ground_truth"]
    for name in ("average_jaccard", "delta_avg", "occlusion_accuracy", "median_error", "survival"):
        assert found[name] == pytest.approx(getattr(expected, name), rel=1e-5), name
    steadiness = report["figures"]["steadiness"]
    after = time > start
    assert steadiness["visible_share"] == pytest.approx(visible[after].mean(), rel=1e-5)
    assert steadiness["static_points"] == 0  # the texture slides
    assert steadiness["jitter_step"] is None
    agreement = report["figures"]["lk_agreement"]
    assert agreement["share_easy"] > 0.5  # LK follows a sliding texture, and an untrained network does not
    assert agreement["median"] == pytest.approx(np.median(np.linalg.norm(xy - true_xy, axis=-1)[after]), rel=0.3)
    assert report["figures"]["forward_backward"]["judged"] + report["figures"]["forward_backward"]["not_judged"] == 8
    with (judged / "points.csv").open() as file:
        points = list(csv.DictReader(file))
    assert [(p["id"], p["query_frame"]) for p in points] == [("0", "0"), ("1", "0"), ("2", "3")]
    share = visible[1:, 0].mean()
    assert float(points[0]["visible_share"]) == pytest.approx(share, abs=1e-4)


def test_tracks_are_those_of_a_live_user(judged: Path, weights: Path) -> None:
    xy, visible = plain_tracks(load_model(weights, device="cpu"))
    with np.load(judged / "tracks.npz") as found:
        scale = np.array([WIDTH - 1, HEIGHT - 1])
        np.testing.assert_allclose(found["points"].swapaxes(0, 1) * scale, xy, atol=1e-4)
        np.testing.assert_array_equal(~found["occluded"].T, visible)
    with (judged / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FRAMES + FRAMES + FRAMES - 3
    last = {row["id"]: row for row in rows if row["frame"] == str(FRAMES - 1)}
    assert float(last["1"]["x"]) == pytest.approx(xy[-1, 1, 0], abs=1e-3)


def test_two_runs_give_the_same_bytes(
    judged: Path, bag: Path, weights: Path, queries: Path, truth: Path, tmp_path: Path
) -> None:
    """The second in a process of its own, with another hash seed."""
    given = words(bag, weights, tmp_path, "--queries", queries, "--ground-truth", truth, "--stretch", 8)
    command = [sys.executable, "-m", "taptrv2_core.cli", *given, "--threads", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert "Against ground truth" in done.stdout
    names = {file.name for file in judged.iterdir()}
    assert names == {file.name for file in tmp_path.iterdir()}
    assert names == {"metrics.json", "points.csv", "report.html", "timing.json", "tracks.csv", "tracks.npz"}
    for name in names - {"timing.json"}:
        assert (judged / name).read_bytes() == (tmp_path / name).read_bytes(), name
    timing = json.loads((tmp_path / "timing.json").read_text())["milliseconds"]
    assert 0 < timing["p50"] <= timing["p90"] <= timing["p99"] <= timing["max"]


def test_report_is_one_file_that_needs_no_network(judged: Path, bag: Path, weights: Path, tmp_path: Path) -> None:
    text = (judged / "report.html").read_text()
    assert text.count("<svg") == 5
    assert text.count("data:image/jpeg;base64,") == 4
    for attribute in re.findall(r'(?:src|href)="([^"#]*)"', text):
        assert attribute.startswith("data:"), attribute
    assert "@import" not in text and "<script" not in text
    assert "Against ground truth" in text and "average Jaccard" in text
    assert "Time of each image" not in text
    more = ("--images", 6, "--stretch", 0, "--grid", 2, "--timing-in-report")
    assert main(words(bag, weights, tmp_path, *more)) == 0
    text = (tmp_path / "report.html").read_text()
    assert "Time of each image" in text
    assert "Forward and backward" not in text and "Against ground truth" not in text
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert (report["images"], report["points"]) == (6, 4)


def test_truth_alone_says_where_to_ask(bag: Path, weights: Path, truth: Path, tmp_path: Path) -> None:
    """As NPZ files in pixels, and in TAP-Vid's layout, whose queries are the first images that show each point."""
    content = load_truth(truth)
    arrays = {"points": content.xy.swapaxes(0, 1), "occluded": ~content.visible.T, "annotated": content.annotated.T}
    np.savez(tmp_path / "truth.npz", **arrays)
    points = arrays.pop("points") / np.array([WIDTH - 1, HEIGHT - 1])
    np.savez(tmp_path / "layout.npz", points=points, image_size=(HEIGHT, WIDTH), **arrays)
    np.testing.assert_allclose(load_truth(tmp_path / "layout.npz").xy, content.xy, atol=1e-4)
    figures = []
    for file in (truth, tmp_path / "truth.npz"):
        assert main(words(bag, weights, tmp_path / file.suffix, "--ground-truth", file, "--stretch", 0)) == 0
        figures.append(json.loads((tmp_path / file.suffix / "metrics.json").read_text())["figures"])
    assert figures[0] == figures[1]
    assert figures[0]["ground_truth"]["average_jaccard"] is not None


def test_corners_of_the_first_image_if_nothing_is_said(bag: Path, weights: Path, tmp_path: Path) -> None:
    assert main(words(bag, weights, tmp_path, "--corners", 5, "--images", 3)) == 0
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert (report["points"], report["images"]) == (5, 3)


def test_jitter_of_a_scene_that_stands_still(weights: Path, tmp_path: Path) -> None:
    """LK finds that nothing moves; what the tracks do all the same is jitter."""
    folder = tmp_path / "still"
    folder.mkdir()
    image, noise = sliding_video(1)[0].astype(int), np.random.default_rng(0)
    for t in range(6):
        cv2.imwrite(str(folder / f"{t}.png"), (image + noise.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8))
    assert main(words(folder, weights, tmp_path / "out", "--grid", 3)) == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["figures"]["steadiness"]
    with np.load(tmp_path / "out" / "tracks.npz") as found:
        xy = (found["points"] * np.array([WIDTH - 1, HEIGHT - 1]))[:, 1:]  # the query's own image does not count
        seen = ~found["occluded"][:, 1:]
    assert figures["static_points"] == seen.any(1).sum() > 5
    step = np.linalg.norm(np.diff(xy, axis=1), axis=-1)[seen[:, 1:] & seen[:, :-1]]
    assert figures["jitter_step"] == pytest.approx(np.sqrt(np.square(step).mean()), rel=1e-3)
    assert step.max() > 0.01


@pytest.mark.parametrize("name", ["euroc_mono", "parkour", "rgbd_desk", "real_ros2_raw", "real_ros1/aruco_images.bag"])
def test_real_recordings(shared_data: Path, weights: Path, tmp_path: Path, name: str) -> None:
    """Raw, compressed, SQLite packed as a whole, MCAP without metadata, ROS 1."""
    given = words(shared_data / "bags" / name, weights, tmp_path, "--grid", 4, "--images", 4, "--stretch", 2)
    assert main(given) == 0
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["points"] == 16 and 1 <= report["images"] <= 4
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_recording_that_breaks_off_keeps_what_was_tracked(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "frames.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for image in sliding_video(12):
        writer.write(image)
    writer.release()
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    assert main(words(video, weights, tmp_path / "out", "--grid", 2)) == 2
    captured = capsys.readouterr()
    assert "partial results: " in captured.err and "of 12 frames" in captured.err
    assert "Traceback" not in captured.err
    partial = tmp_path / "out" / "partial"
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["partial"]
    report = json.loads((partial / "metrics.json").read_text())
    done = report["images"]
    assert not report["complete"] and 4 < done < 12
    assert "frames.avi" in report["problem"]
    assert "<h1>frames (partial)</h1>" in (partial / "report.html").read_text()
    assert np.load(partial / "tracks.npz")["points"].shape == (4, done, 2)


def test_queries_of_which_no_image_comes_are_no_success(
    bag: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = tmp_path / "points.csv"
    queries.write_text("stamp,x,y\n1e9,30,20\n")
    assert main(words(bag, weights, tmp_path / "out", "--images", 3, "--queries", queries)) == 2
    captured = capsys.readouterr()
    assert "partial results: no point was tracked" in captured.err and "points.csv" in captured.err
    report = json.loads((tmp_path / "out" / "partial" / "metrics.json").read_text())
    assert (report["images"], report["points"], report["complete"]) == (3, 0, False)


def test_where_stamps_break_off_points_are_forgotten_as_in_the_node(
    weights: Path, queries: Path, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamps = [*(5 + 0.05 * np.arange(12)), *(8 + 0.05 * np.arange(FRAMES - 12))]
    stamps[6] = stamps[5]
    bag = stamped_bag(tmp_path / "gap", stamps)
    given = ("--queries", queries, "--ground-truth", truth, "--stretch", 4)
    assert main(words(bag, weights, tmp_path / "out", *given)) == 0
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    (reset,) = report["resets"]
    assert reset == "image 12: no image for 2.45 s by their stamps (max_gap is 1 s), 3 points forgotten"
    noted = capsys.readouterr().err
    assert f"tracking started anew once, as in the live node (max_gap): {reset}" in noted
    assert "1 images had the stamp of the one before" in noted
    with np.load(tmp_path / "out" / "tracks.npz") as found:
        assert found["occluded"][:, [6, *range(12, FRAMES)]].all()
    figures = report["figures"]
    # The repeated image is no image at all: 10 after the query of the first two points, 7 after that of the third.
    known = figures["forward_backward"]
    assert known["judged"] + known["not_judged"] == 2 + 3 + 3  # stretches begin at images 0, 4 and 9
    assert figures["steadiness"]["visible_share"] > 0.5  # nothing is said of points that are not tracked
    # Whoever forgets a point has lost it, so against the truth it would have been better not to.
    assert main(words(bag, weights, tmp_path / "on", *given, "--max-gap", 0)) == 0
    on = json.loads((tmp_path / "on" / "metrics.json").read_text())
    assert on["resets"] == [] and on["max_gap"] == 0
    accuracy = "occlusion_accuracy"
    assert on["figures"]["ground_truth"][accuracy] > figures["ground_truth"][accuracy]
    capsys.readouterr()
    assert main(words(bag, weights, tmp_path / "never", "--max-gap", -1)) == 1
    assert "--max-gap -1.0: must be at least 0" in capsys.readouterr().err


def test_images_of_another_size_end_the_tracking(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, image in enumerate(sliding_video(6)):
        cv2.imwrite(str(folder / f"{t}.png"), image if t < 4 else image[:40])
    assert main(words(folder, weights, tmp_path / "out", "--grid", 2)) == 2
    assert "tracking ends after 4 images: image is 96 x 40 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--topic", "/nowhere"], "no image topic '/nowhere' in this bag; it has /camera/image_raw (20 images)"),
        (["--queries", "{}/bad.csv"], "bad.csv, line 3: x is 'left', not a number"),
        (["--queries", "{}/outside.csv"], "outside.csv, line 2: (500, 5) lies outside the image of 96 x 72 pixels"),
        (["--queries", "{}/late.csv"], "frame 20, but the recording has 20 images"),
        (["--queries", "{}/none.csv"], "none.csv: cannot be read: No such file"),
        (["--ground-truth", "{}/none.npz"], "none.npz: no such file of ground truth"),
        (["--ground-truth", "{}/long.npz"], "ground truth of 21 images, but"),
        (["--ground-truth", "{}/other.npz"], "cannot be read as arrays 'points'"),
        (["--ground-truth", "{}/bad_truth.csv"], "bad_truth.csv: line 3: invalid literal"),
        (["--queries", "{}/two.csv", "--ground-truth", "{}/three.npz"], "has 2 points and"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    bag: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    files = {
        "bad": "frame,x,y\n0,5,5\n0,left,5\n", "outside": "x,y\n500,5\n", "late": "frame,x,y\n20,5,5\n",
        "bad_truth": "frame,id,x,y\n0,0,5,5\none,0,5,5\n", "two": "x,y\n5,5\n6,6\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    for name, shape in (("long", (1, 21)), ("three", (3, FRAMES))):
        np.savez(tmp_path / f"{name}.npz", points=np.ones((*shape, 2)), visible=np.ones(shape, bool))
    np.savez(tmp_path / "other.npz", tracks=np.ones(3))
    given = [word.replace("{}", str(tmp_path)) for word in more]
    assert main(words(bag, weights, tmp_path / "out", *given)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_truncated_bag(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recorder that lost its power: what is whole in the file is tracked."""
    (file,) = sliding_bag(tmp_path / "slide", 80).glob("*.mcap")
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    assert main(words(cut, weights, tmp_path / "out", "--grid", 1, "--stretch", 0)) == 2
    assert "partial results: " in capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "partial" / "metrics.json").read_text())
    assert 20 < report["images"] < 80 and not report["complete"]
    assert "cut.mcap" in report["problem"]
