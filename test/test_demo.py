"""The demo as a user starts it: real node, real DDS, the files it writes; and what it says of inputs it cannot play."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
pytest.importorskip("av")
pytest.importorskip("rosbags")
import av
from camera_process import camera_image
from ros_harness import wait_until

from taptrv2_ros.demo.__main__ import main
from taptrv2_ros.demo.clip import write_bag


def video_of(frames: int, height: int = 96, width: int = 128) -> np.ndarray:
    return np.stack([camera_image(i, height, width) for i in range(frames)])


def start_demo(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taptrv2_ros.demo", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_bag_is_tracked_drawn_and_tabled_image_by_image(tmp_path: Path, weights: Path) -> None:
    video = video_of(14)
    write_bag(tmp_path / "street", video)
    demo = start_demo(tmp_path / "street", "--out", tmp_path / "out", "--points", 9, "--weights", weights)
    printed, errors = demo.communicate(timeout=200)
    assert demo.returncode == 0, errors
    folder = tmp_path / "out" / "street"
    for name in ("overlay.mp4", "tracks.png", "tracks.csv"):
        assert str(folder / name) in printed
    assert re.search(r"[\d.]+ images/s", printed)

    rows = table_of(folder / "tracks.csv")
    assert [int(row["frame"]) for row in rows] == [i for i in range(14) for _ in range(9)]
    assert len({row["id"] for row in rows}) == 9
    refined = {int(row["frame"]) for row in rows if row["refined_x"]}
    assert refined == set(range(8))  # two committing windows, the older half of each final

    drawn = frames_of(folder / "overlay.mp4")
    assert len(drawn) == 14
    scale = drawn[0].shape[1] // 128
    discs, rings = [], []
    for index, picture in enumerate(drawn):
        for row in rows[9 * index : 9 * index + 9]:
            x, y = float(row["x"]), float(row["y"])
            if not (0 <= x < 128 and 0 <= y < video[index].shape[0] - 22 / scale):
                continue  # outside, or under the caption
            if row["visible"] == "1":
                discs.append((change(picture, x, y, scale, video[index], (0, 3)) > 40).mean())
            else:
                rings.append((change(picture, x, y, scale, video[index], (3, 4.5)) > 25).mean())
    assert min(discs) > 0.5
    assert np.quantile(rings, 0.05) > 0.5
    assert min(rings) > 0.05  # of the colours behind it
    plot = cv2.imread(str(folder / "tracks.png"))
    assert plot is not None
    assert plot.std() > 5


def change(
    picture: np.ndarray, x: float, y: float, scale: int, image: np.ndarray, radii: tuple[float, float]
) -> np.ndarray:
    """By how much the pixels between two radii around a point differ from the darkened image it was drawn on."""
    plain = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).astype(float) * 0.8
    rows, columns = np.indices(plain.shape[:2])
    distance = np.hypot(columns - (x + 0.5) * scale + 0.5, rows - (y + 0.5) * scale + 0.5)
    return np.abs(picture - plain).max(axis=-1)[(radii[0] <= distance) & (distance < radii[1])]


def test_the_generated_clip_is_scored_against_its_truth(tmp_path: Path, weights: Path) -> None:
    demo = start_demo("--out", tmp_path, "--frames", 10, "--points", 24, "--weights", weights)
    printed, errors = demo.communicate(timeout=200)
    assert demo.returncode == 0, errors
    table = {
        m[1].strip(): m
        for m in re.finditer(r"^  (\S.*?) +([\d.]+) px +([\d.]+) px +([\d.]+) +([\d.]+) %$", printed, re.M)
    }
    assert set(table) == {"TAPTRv2, live", "never moves", "OpenCV LK"}
    # LK follows a slow clip over ten images; a point that never moves does not, and random weights do not.
    assert float(table["OpenCV LK"][2]) < float(table["never moves"][2])
    assert float(table["OpenCV LK"][2]) < float(table["TAPTRv2, live"][2])

    with np.load(tmp_path / "generated" / "truth.npz") as truth:
        query_frame, xy = truth["query_frame"], truth["points"].swapaxes(0, 1)
    rows = table_of(tmp_path / "generated" / "tracks.csv")
    points = np.flatnonzero(query_frame < 10)
    points = points[np.argsort(query_frame[points], kind="stable")]
    first = {}
    for row in rows:
        first.setdefault(int(row["id"]), row)
    assert len(first) == len(points)
    for point, row in zip(points, (first[i] for i in sorted(first)), strict=True):
        assert int(row["frame"]) == query_frame[point]  # added while the clip was running
        np.testing.assert_allclose((float(row["x"]), float(row["y"])), xy[query_frame[point], point], atol=1e-3)


def test_ctrl_c_keeps_what_was_done_and_ends_the_node(tmp_path: Path, weights: Path) -> None:
    write_bag(tmp_path / "long", np.concatenate([video_of(30)] * 30))
    demo = start_demo(tmp_path / "long", "--out", tmp_path / "out", "--weights", weights)
    folder = tmp_path / "out" / "long"
    wait_until(lambda: (folder / "overlay.mp4").exists(), "the first image of the overlay", 120)
    os.kill(demo.pid, signal.SIGINT)
    printed, errors = demo.communicate(timeout=100)
    assert demo.returncode == 130, errors
    assert "Traceback" not in errors
    done = len(frames_of(folder / "overlay.mp4"))
    assert 1 <= done < 900
    assert {int(row["frame"]) for row in table_of(folder / "tracks.csv")} == set(range(done))
    node = int(re.search(r"process (\d+)", printed)[1])
    assert not Path(f"/proc/{node}").exists()
    assert "Traceback" not in (folder / "node.log").read_text()


def test_a_node_that_cannot_start_is_reported_with_its_reason(tmp_path: Path) -> None:
    write_bag(tmp_path / "street", video_of(3))
    demo = start_demo(tmp_path / "street", "--out", tmp_path / "out", "--weights", tmp_path / "none.pt")
    _, errors = demo.communicate(timeout=200)
    assert demo.returncode == 1
    assert "error: the node cannot configure: " in errors
    assert "none.pt: no such file" in errors
    assert "Traceback" not in errors


def bag_of_one(folder: Path) -> Path:
    write_bag(folder / "one", video_of(1))
    return folder / "one"


def text_file(folder: Path) -> Path:
    (folder / "notes.txt").write_text("not a recording")
    return folder / "notes.txt"


def broken_bag(folder: Path) -> Path:
    (folder / "broken.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(500))
    return folder / "broken.mcap"


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(
    ("make", "arguments", "reason"),
    [
        (lambda folder: folder / "nothing", [], "no such file or folder"),
        (text_file, [], "neither a bag .* nor a video"),
        (broken_bag, [], "cannot be read as a bag"),
        (empty_folder, [], "neither a bag .* nor images"),
        (bag_of_one, [], "1 image in the recording"),
        (bag_of_one, ["--topic", "/other"], "no image topic '/other' in this bag; it has /camera/image_raw"),
        (text_file, ["--topic", "/other"], "only bags have topics"),
    ],
)
def test_inputs_that_cannot_be_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, arguments: list[str], reason: str
) -> None:
    path = make(tmp_path)
    assert main([str(path), "--out", str(tmp_path / "out"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(reason, line)
    assert path.stem in line
