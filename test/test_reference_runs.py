"""References in recordings: ``taptr track`` and ``taptr evaluate-bag`` look for their points."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from recorded import HEIGHT, STEP, WIDTH, sliding_bag, sliding_video, stamped_bag
from tiny import tiny_model
from track_inputs import decoded, table_of

from taptrv2_core import Tracker
from taptrv2_core.cli import evaluate_bags, main
from taptrv2_core.query_files import Query, read_queries
from taptrv2_core.reference_files import Reference, write_reference
from taptrv2_core.tracking_run import Follower, PointSource, TrackedFrame
from taptrv2_core.tracking_run.outputs.tapvid import TapVidArrays
from taptrv2_core.tracking_run.points import Label

pytest.importorskip("yaml")
FRAMES = 16
XY = [(20.0, 15.0), (40.5, 30.0)]


@pytest.fixture(scope="module")
def mug(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two points of a part of the recordings' third image."""
    path = tmp_path_factory.mktemp("reference") / "mug.yaml"
    write_reference(path, sliding_video(FRAMES)[2, 8:56, 10:80], XY, "mug", ("rim", ""))
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sliding_bag(tmp_path_factory.mktemp("bags") / "slide", FRAMES)


def words(command: str, bag: Path, weights: Path, out: Path, *more: object) -> list[str]:
    return [command, str(bag), "--model", str(weights), "--device", "cpu", "--out", str(out), *map(str, more)]


@pytest.mark.parametrize("streaming", [False, True])
def test_its_points_are_in_every_image_and_outlive_a_cut(streaming: bool) -> None:
    frames = list(decoded(20))
    reference = Reference(frames[3].image[5:50, 8:60], np.array(XY), ("rim", ""), "mug", "mug.yaml")
    points = PointSource([Query(10, 20, 0), Query(30, 30, 14)], references=[reference, reference])
    points.begin((64, 64))
    follower = Follower(Tracker(tiny_model()), points, streaming)
    done: list[TrackedFrame] = []
    for frame in frames:
        if frame.number == 10:
            done += follower.restart()
        done += follower.push(frame)
    done += follower.finish()
    expected = [0, 1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3, 5]
    assert [f.tracks.ids.tolist() for f in done] == [
        *[expected[0]] * 10, *[expected[1]] * 4, *[expected[2]] * 6,
    ]  # fmt: skip
    assert points.labels[0] == points.labels[2] == Label("rim", "mug")
    assert points.labels[5] == Label("", "")
    if streaming:  # after the cut it begins with nothing but the picture
        fresh = Tracker(tiny_model())
        for _ in range(2):
            fresh.add_reference(reference.image, reference.xy)
        np.testing.assert_array_equal(done[10].tracks.xy, fresh.step(frames[10].image).xy)


def test_the_arrays_ask_for_it_where_it_was_found(tmp_path: Path) -> None:
    arrays = TapVidArrays(tmp_path / "tracks.npz", {})
    points = PointSource([Query(1, 1, 0)] * 3)
    points.begin((64, 64))
    follower = Follower(Tracker(tiny_model()), points, streaming=True)
    seen = [(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1)]
    for number, frame in enumerate(decoded(4)):
        (tracked,) = follower.push(frame)
        xy = np.full(3, 10.0 + number, np.float32)
        visible, found = np.array(seen[number], bool), np.array(seen[: number + 1], bool).any(0) | (False, False, True)
        tracks = replace(tracked.tracks, x=xy, y=xy + 5, visible=visible, found=found)
        arrays.write(replace(tracked, tracks=tracks))
    arrays.close()
    queries = read_queries(tmp_path / "tracks.npz")
    assert [(q.frame, q.x, q.y) for q in queries] == [(1, 11, 16), (0, 10, 15), (0, 10, 15)]
    with np.load(tmp_path / "tracks.npz") as found:
        assert (~found["occluded"].T).tolist() == [[bool(v) for v in row] for row in seen]
        np.testing.assert_allclose(found["points"][0, 0] * 63, (10, 15), rtol=1e-6)


def test_track(mug: Path, bag: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("frame,x,y,group\n3,20,20,left\n")
    more = ("--reference", mug, "--reference", mug, "--queries", tmp_path / "points.csv", "--grid", 2, "--no-overlay")
    assert main(words("track", bag, weights, tmp_path / "out", *more)) == 0
    rows = table_of(tmp_path / "out" / "tracks.csv")
    assert [row["id"] for row in rows if row["frame"] == "0"] == list("01234567")
    groups = {row["id"]: (row["name"], row["group"]) for row in rows}
    assert groups["0"] == groups["2"] == ("rim", "mug") and groups["1"] == ("", "mug")
    assert groups["4"] == ("", "") and groups["8"] == ("", "left")
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["points"] == 9 and about["options"]["references"] == [str(mug)] * 2
    assert main(words("track", bag, weights, tmp_path / "alone", "--reference", mug, "--images", 9)) == 0
    assert len(table_of(tmp_path / "alone" / "tracks.csv")) == 18  # no corners beside it


def points_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "points.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_is_judged_apart(mug: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = stamped_bag(tmp_path / "gap", [*(5 + 0.05 * np.arange(10)), *(8 + 0.05 * np.arange(FRAMES - 10))])
    rows = [f"{t},0,{30 + STEP[0] * t},{20 + STEP[1] * t}" for t in range(FRAMES)]
    (tmp_path / "truth.csv").write_text("frame,id,x,y\n" + "\n".join(rows))
    more = ("--reference", mug, "--ground-truth", tmp_path / "truth.csv", "--stretch", 4)
    assert main(words("evaluate-bag", bag, weights, tmp_path / "out", *more)) == 0
    said = capsys.readouterr()
    assert "2 points are of references: they have figures of their own" in said.err
    assert "Points of references\n  points" in said.out
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert report["resets"][0].endswith("1 points forgotten, 2 of references looked for anew")
    points, figures = points_of(tmp_path / "out"), report["figures"]
    assert [p["query_frame"] for p in points] == ["-1", "-1", "0"]
    for point in points[:2]:
        assert [name for name, value in point.items() if value] == ["id", "query_frame", "visible_share"]
    assert figures["references"]["points"] == 2
    shares = [float(p["visible_share"]) for p in points]
    assert figures["references"]["visible_share"] == pytest.approx(np.mean(shares[:2]), abs=1e-4)
    assert figures["steadiness"]["visible_share"] == pytest.approx(shares[2], abs=1e-4)
    assert figures["ground_truth"]["average_jaccard"] is not None and figures["lk_agreement"]["median"] is not None
    judged = figures["forward_backward"]
    assert judged["judged"] + judged["not_judged"] == 3 * 3 + 2 * 2  # stretches begin at images 0, 4, 8; and 10, 14
    assert "<td>reference</td>" in (tmp_path / "out" / "report.html").read_text()


def test_alone_it_is_all_that_is_judged(mug: Path, bag: Path, weights: Path, tmp_path: Path) -> None:
    pattern = str(mug).replace("mug.yaml", "{}.yaml")
    (mug.parent / "slide.yaml").write_text(mug.read_text())
    assert main(words("evaluate-bag", bag, weights, tmp_path / "out", "--reference", pattern)) == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["figures"]
    assert list(figures) == ["references", "forward_backward"]
    assert [p["id"] for p in points_of(tmp_path / "out")] == ["0", "1"]


def test_many_recordings_have_one_each() -> None:
    parser = argparse.ArgumentParser()
    evaluate_bags.add_arguments(parser)
    jobs = evaluate_bags._jobs(
        parser.parse_args(["a.mcap", "b.mcap", "--reference", "{}.yaml", "--reference", "c.yaml"])
    )
    here = Path.cwd()  # workers may be elsewhere
    assert [job.references for job in jobs] == [(here / f"{name}.yaml", here / "c.yaml") for name in "ab"]


@pytest.mark.parametrize("command", ["track", "evaluate-bag"])
def test_what_cannot_be_used_is_one_line_before_anything_is_done(
    bag: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    write_reference(tmp_path / "large.yaml", np.full((HEIGHT, WIDTH + 1, 3), 128, np.uint8), XY)
    (tmp_path / "bad.yaml").write_text("image: none.png\npoints: [{x: 1, y: 1}]")
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    for name, message in [
        (
            "large.yaml",
            "its picture is 97 x 72 pixels, larger than the images of 96 x 72: reduce it, or cut out a part",
        ),
        ("bad.yaml", "none.png cannot be read: No such file or directory"),
        ("picture.png", "a reference is a .yaml file that names a picture and points of it"),
    ]:
        assert main(words(command, bag, weights, tmp_path / "out", "--reference", tmp_path / name)) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert message in line and name in line
        assert not (tmp_path / "out").exists()
