"""``taptr demo`` as it is called: the videos it writes, and what it says of input it cannot use."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("tqdm")
import av
from camera_process import camera_image
from tiny import tiny_model
from waiting import wait_until

from taptrv2_core import Tracker
from taptrv2_core.cli import main
from taptrv2_core.demos.click import VideoStage
from taptrv2_core.demos.final import final_tracks
from taptrv2_core.demos.rainbow import grid_points
from taptrv2_core.demos.source import open_images
from taptrv2_core.drawing import VideoWriter

FRAMES, HEIGHT, WIDTH = 13, 96, 128


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "street.mp4", FRAMES)


def write_video(path: Path, frames: int) -> Path:
    with VideoWriter(path, 12) as writer:
        for index in range(frames):
            grey = camera_image(index, HEIGHT, WIDTH).mean(axis=-1, keepdims=True)
            writer.write(np.repeat(grey, 3, axis=-1).astype(np.uint8))
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].average_rate) == 12
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_rainbow(tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    assert main(["demo", "rainbow", str(video), "--out", str(out), "--grid", "8"]) == 0
    assert capsys.readouterr().out == f"{out}: {FRAMES} images\n"
    pictures = frames_of(out)
    assert len(pictures) == FRAMES
    assert pictures[0].shape == (480, 640, 3)  # small images are enlarged
    coloured = [(np.ptp(picture.astype(int), axis=-1) > 90).mean() for picture in pictures]  # the images are grey
    assert coloured[0] > 0.002  # 48 small discs
    assert coloured[-1] > 1.5 * coloured[0]  # and their tails
    top, bottom = (pictures[0][rows][np.ptp(pictures[0][rows].astype(int), axis=-1) > 90].mean(axis=0)
                   for rows in (slice(0, 120), slice(360, 480)))  # fmt: skip
    assert top[0] > top[2] and bottom[2] > bottom[0]  # red above, blue below


def test_final_tracks_are_the_last_word_on_each_image() -> None:
    images = [camera_image(i, HEIGHT, WIDTH) for i in range(FRAMES)]
    points = grid_points(HEIGHT, WIDTH, 4)
    tracker, live = Tracker(tiny_model()), Tracker(tiny_model())
    tracker.add_points(points)
    live.add_points(points)
    last = {}
    for image in images:
        tracks = live.step(image)
        last.update({t.frame_index: t for t in (tracks, *tracks.refined)})
    answers = list(final_tracks(tracker, images))
    assert [tracks.frame_index for _, tracks in answers] == list(range(FRAMES))
    for index, (image, tracks) in enumerate(answers):
        assert image is images[index]
        np.testing.assert_array_equal(tracks.xy, last[index].xy)


def test_the_grid_lies_in_the_middle_of_the_image() -> None:
    points = grid_points(90, 160, 16)
    assert len(points) == 16 * 9
    np.testing.assert_allclose(points.mean(axis=0), (79.5, 44.5))
    np.testing.assert_allclose(np.unique(np.diff(np.unique(points[:, 0]))), 10)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("nothing.mp4", None, "no such file or folder"),
        ("empty.mp4", b"", "the file is empty"),
        ("notes.mp4", b"not a video", "neither a bag .* nor a video"),
    ],
)
def test_input_that_cannot_be_used(
    tmp_path: Path, weights: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.mp4"
    assert main(["demo", "rainbow", str(tmp_path / name), "--weights", str(weights), "--out", str(out)]) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith(f"taptr demo: {tmp_path / name}")
    assert re.search(reason, line)
    assert not out.exists()


def test_a_video_of_one_image(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_video(tmp_path / "one.mp4", 1)
    assert main(["demo", "rainbow", str(one), "--weights", str(weights)]) == 2
    assert "following points takes at least 2" in capsys.readouterr().err


def test_a_folder_that_is_not_there(video: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = "/no/such/folder/out.mp4"
    assert main(["demo", "rainbow", str(video), "--weights", str(weights), "--out", out]) == 1
    assert "/no/such/folder does not exist; make it first" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_drawn(tmp_path: Path, weights: Path) -> None:
    video, out, partial = (tmp_path / name for name in ("long.mp4", "out.mp4", "out.partial.mp4"))
    write_video(video, 500)
    out.write_bytes(b"of an earlier run")
    command = [sys.executable, "-m", "taptrv2_core.cli", "demo", "rainbow", str(video), "--weights", str(weights)]
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(partial.exists, "the first image")
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    done = len(frames_of(partial))
    assert 1 <= done < 500
    assert said == f"{partial}: {done} images (stopped before the end)\n"
    assert out.read_bytes() == b"of an earlier run"


def test_before_the_disk_is_full_the_video_ends(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    noise, disk = tmp_path / "noise.mp4", tmp_path / "disk"
    with VideoWriter(noise, 12) as writer:
        for _ in range(60):
            writer.write(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        words = ["demo", "rainbow", str(noise), "--weights", str(weights), "--grid", "4"]
        assert main([*words, "--out", str(disk / "out.mp4")]) == 1
        out, errors = capsys.readouterr()
        done = len(frames_of(disk / "out.partial.mp4"))
        assert 1 <= done < 60
        assert f"the disk of {disk} is full but for 5 MB" in errors
        assert out == f"{disk / 'out.partial.mp4'}: {done} images (stopped before the end)\n"
        assert [path.name for path in disk.iterdir()] == ["out.partial.mp4"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_no_broken_video(video: Path, tmp_path: Path, weights: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    command = [sys.executable, "-m", "taptrv2_core.cli", "demo", "rainbow", str(video), "--weights", str(weights)]
    words = [*command, "--out", str(tmp_path / "out.mp4")]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60, preexec_fn=limit)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "out.partial.mp4: cannot be " in run.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_images_keep_their_numbers_where_some_cannot_be_decoded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for index in range(9):
        cv2.imwrite(str(tmp_path / f"{index}.png"), camera_image(index, HEIGHT, WIDTH))
    for index in (1, 7):
        (tmp_path / f"{index}.png").write_bytes(b"damaged")
    with open_images(tmp_path) as source:
        assert [number for number, _ in source.numbered] == [0, 2, 3, 4, 5, 6, 8]
    assert capfd.readouterr().err.count("is left out") == 1
    with VideoStage(lambda: open_images(tmp_path), model=None) as stage:
        for index in (5, 1, 8):
            stage.seek(index)
            stage.add(stage.showing.newer(0, 0)[1].image, 10, 10)
        assert [pick.frame for pick in stage.picks.values()] == [5, 2, 8]  # as `taptr track` counts them
