"""The command ``taptr track``: interrupts, full disks and bad input end in one line and partial results."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from camera_process import camera_image
from track_inputs import street, table_of

from taptrv2_core.cli import main
from taptrv2_core.recordings import open_recording


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return street(tmp_path_factory.mktemp("street"))


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taptrv2_core.cli", "track", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 images of noise, which do not compress, in a bag."""
    pytest.importorskip("rosbags")
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    folder = tmp_path_factory.mktemp("recordings") / "film"
    noise = np.random.default_rng(0).integers(0, 256, (8, 96 * 128 * 3)).astype(np.uint8)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/cam/image", "sensor_msgs/msg/Image", typestore=store)
        for index in range(600):
            time = types["builtin_interfaces/msg/Time"](sec=index, nanosec=0)
            header = types["std_msgs/msg/Header"](stamp=time, frame_id="cam")
            message = types["sensor_msgs/msg/Image"](
                header=header, height=96, width=128, encoding="rgb8", is_bigendian=0, step=384, data=noise[index % 8]
            )
            writer.write(connection, index * 10**9, store.serialize_cdr(message, message.__msgtype__))
    return folder


def check_partial(folder: Path, reason: str, overlay: bool = True) -> int:
    """Whole files, named as partial, and a summary that says so; returns how many images they hold."""
    assert sorted(p.name for p in folder.iterdir()) == ["partial"]
    about = json.loads((folder / "partial" / "run.json").read_text())
    assert not about["complete"]
    assert reason in about["stopped"]
    frames = {int(row["frame"]) for row in table_of(folder / "partial" / "tracks.csv")}
    assert frames == set(range(len(frames)))
    assert len(frames) >= about["images"] > 0
    if overlay:
        av = pytest.importorskip("av")
        with av.open(str(folder / "partial" / "overlay.mp4")) as container:
            assert len([None for _ in container.decode(video=0)]) == about["images"]
    return int(about["images"])


@pytest.mark.parametrize(
    ("given", "width"), [([], 640), (["--overlay-width", "64"], 64), (["--overlay-width", "0"], 640)]
)
def test_the_overlay_is_as_wide_as_asked(
    images: Path, weights: Path, tmp_path: Path, given: list[str], width: int
) -> None:
    """These images, 128 pixels wide, are enlarged unless they have to be reduced."""
    av = pytest.importorskip("av")
    out = ["--weights", str(weights), "--out", str(tmp_path), "--images", "3", "--grid", "1"]
    assert main(["track", str(images), *out, *given]) == 0
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(width, width * 3 // 4)] * 3


def test_ctrl_c_keeps_what_was_done_and_names_it_partial(film: Path, weights: Path, tmp_path: Path) -> None:
    run = start(film, "--weights", weights, "--out", tmp_path, "--bag", "--grid", "2", start_new_session=True)
    deadline = time.monotonic() + 100
    while not (tmp_path / "partial" / "overlay.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the overlay's process gets it too
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert "Traceback" not in errors
    done = check_partial(tmp_path, "interrupted")
    assert done < 600
    assert f"partial results: {done} images" in errors
    with (
        open_recording(tmp_path / "partial" / "tracks_bag") as bag,
        np.load(tmp_path / "partial" / "tracks.npz") as npz,
    ):
        assert len(list(bag.frames)) == npz["points"].shape[1] == done


def test_a_file_that_may_not_grow_stops_the_run_with_one_line(film: Path, weights: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    # Small pictures: the limit holds for the memory that is shared with the process that draws, too.
    words = ("--weights", weights, "--out", tmp_path, "--grid", "2", "--overlay-width", "128")
    run = start(film, *words, preexec_fn=limit)
    _, errors = run.communicate(timeout=100)
    assert run.returncode == 2, errors
    assert "Traceback" not in errors
    assert "overlay.mp4: cannot be written: File too large; partial results" in errors
    check_partial(tmp_path, "File too large", overlay=False)


def test_a_full_disk_leaves_whole_files(film: Path, weights: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        run = start(film, "--weights", weights, "--out", disk / "out", "--grid", "2")
        _, errors = run.communicate(timeout=100)
        assert run.returncode == 2, errors
        assert "Traceback" not in errors
        assert "out/partial is full but for" in errors
        check_partial(disk / "out", "is full")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_cannot_be_tracked_is_said_in_one_line(
    film: Path, images: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text("frame,x,y\n0,1,2\n0,1,two\n")
    (tmp_path / "late.csv").write_text("frame,x,y\n14,1,2\n")
    (tmp_path / "far.csv").write_text("x,y\n500,2\n")
    (tmp_path / "taken" / "tracks_bag").mkdir(parents=True)
    (tmp_path / "taken" / "tracks_bag" / "mine.bag").touch()
    for arguments, reason in (
        (["--queries", tmp_path / "bad.csv"], "bad.csv, line 3: y is 'two', not a number"),
        (["--queries", tmp_path / "late.csv"], "late.csv, line 2: frame 14, but the recording has 14 images"),
        (["--queries", tmp_path / "far.csv"], "far.csv, line 2: (500, 2) lies outside the image of 128 x 96"),
        (["--out", tmp_path / "taken", "--bag"], "tracks_bag: holds files that are not results"),
        (["--topic", "/cam"], "only bags have topics"),
        (["--grid", "-1"], "--grid -1: must be at least 0"),
        (["--weights", tmp_path / "none.pt"], "none.pt: no such file"),
    ):
        out = [] if "--out" in arguments else ["--out", tmp_path / "out"]
        status = main(["track", str(images), *map(str, [*out, "--no-overlay", *arguments])])
        *_, line = capsys.readouterr().err.splitlines()
        assert status in (1, 2)
        assert reason in line
    assert not list((tmp_path / "out").iterdir())
    assert (tmp_path / "taken" / "tracks_bag" / "mine.bag").exists()


def test_a_recording_in_the_way_of_its_results_is_not_replaced(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "overlay.mp4").mkdir()
    cv2.imwrite(str(tmp_path / "overlay.mp4" / "0.png"), camera_image(0, 96, 128))
    status = main(["track", str(tmp_path / "overlay.mp4"), "--weights", str(weights), "--out", str(tmp_path)])
    assert status == 1
    assert (tmp_path / "overlay.mp4" / "0.png").exists()


async def click(url: str, *places: tuple[float, float]) -> None:
    """What the page does: wait for the first image, click in it, say that this is all."""
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}socket") as page:
        await page.send_json({"type": "ready"})
        while (message := await page.receive(20)).type != aiohttp.WSMsgType.BINARY:
            assert message.type == aiohttp.WSMsgType.TEXT
        length = int.from_bytes(message.data[:4], "little")
        image = json.loads(message.data[4 : 4 + length])["image"]
        for x, y in places:
            await page.send_json({"type": "add", "image": image, "x": x, "y": y})
        await page.send_json({"type": "done"})


def test_clicked_points_are_tracked(images: Path, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    run = start(images, "--weights", weights, "--out", tmp_path, "--no-overlay", "--click", "--port", "0")
    assert run.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", run.stdout.readline())
    assert found, run.communicate(timeout=30)
    asyncio.run(click(found[0], (10, 20), (64.5, 48)))
    _, errors = run.communicate(timeout=100)
    assert run.returncode == 0, errors
    rows = table_of(tmp_path / "tracks.csv")
    assert [(float(row["x"]), float(row["y"])) for row in rows[:2]] == [(10, 20), (64.5, 48)]
    assert len(rows) == 2 * 14


def test_a_query_whose_image_never_comes_is_reported(
    images: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.csv").write_text("stamp,x,y\n50000000,1,2\n60000000,1,2\n")
    arguments = ["track", str(images), "--weights", str(weights), "--out", str(tmp_path / "out"), "--no-overlay"]
    assert main([*arguments, "--queries", str(tmp_path / "q.csv")]) == 2
    assert f"{tmp_path / 'q.csv'}, line 3: its image never came" in capsys.readouterr().err
    assert {row["id"] for row in table_of(tmp_path / "out" / "tracks.csv")} == {"0"}


@pytest.mark.parametrize(
    "name",
    ["bags/parkour", "bags/euroc_mono", "bags/rgbd_desk", "bags/real_ros1/aruco_images.bag",
     "bags/real_ros2_raw/soccer_goal_12.mcap", "videos/cups.mp4", "house/frames"],
)  # fmt: skip
def test_recordings_of_real_cameras(shared_data: Path, weights: Path, tmp_path: Path, name: str) -> None:
    arguments = ["track", str(shared_data / name), "--weights", str(weights), "--out", str(tmp_path), "--grid", "3"]
    assert main([*arguments, "--images", "9", "--bag"]) == 0
    rows = table_of(tmp_path / "tracks.csv")
    frames = {int(row["frame"]) for row in rows}
    with open_recording(shared_data / name) as recording:
        assert len(frames) == min(9, recording.count)
    assert len(rows) == 9 * len(frames)
