"""Recordings of every kind come out as the images that went in, in order, with their stamps."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")
from bag_writing import STAMPS, VIDEO, write_ros1, write_ros2
from rosbags import rosbag1, rosbag2

from taptrv2_core.recordings import RecordingError, open_recording

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def check(path: Path, topic: str, chosen: str | None = None) -> None:
    source = open_recording(path, chosen)
    assert (source.topic, source.compressed, source.count) == (topic, False, 5)
    frames = list(source.frames)
    assert [f.stamp for f in frames] == [f.recorded for f in frames] == STAMPS
    assert {f.frame_id for f in frames} == {"cam"}
    np.testing.assert_array_equal(np.stack([f.rgb() for f in frames]), VIDEO)


@pytest.mark.parametrize("storage", list(rosbag2.StoragePlugin))
@pytest.mark.parametrize("compression", [None, rosbag2.CompressionMode.FILE, rosbag2.CompressionMode.MESSAGE])
def test_ros2_bags(tmp_path: Path, storage: Any, compression: Any) -> None:
    if storage is rosbag2.StoragePlugin.MCAP and compression is rosbag2.CompressionMode.FILE:
        pytest.skip("MCAP has compression of its own; whole files are compressed in SQLite bags only")
    options = {"compression": compression} if compression else {}
    check(write_ros2(tmp_path / "bag", {"/cam/image": "rgb8"}, storage=storage, **options), "/cam/image")


@pytest.mark.parametrize("storage", list(rosbag2.StoragePlugin))
@pytest.mark.parametrize("compression", [None, rosbag2.CompressionMode.FILE, rosbag2.CompressionMode.MESSAGE])
def test_ros2_bags_without_their_metadata(tmp_path: Path, storage: Any, compression: Any) -> None:
    if storage is rosbag2.StoragePlugin.MCAP and compression is rosbag2.CompressionMode.FILE:
        pytest.skip("MCAP has compression of its own")
    options = {"compression": compression} if compression else {}
    folder = write_ros2(tmp_path / "bag", {"/cam/image": "rgb8"}, storage=storage, **options)
    (folder / "metadata.yaml").unlink()
    (file,) = folder.iterdir()
    check(file, "/cam/image")
    check(folder, "/cam/image")
    assert open_recording(file).name == "bag"


def test_an_mcap_compressed_as_a_whole(tmp_path: Path) -> None:
    folder = write_ros2(tmp_path / "bag", {"/cam/image": "rgb8"}, storage=rosbag2.StoragePlugin.MCAP)
    packed = tmp_path / "drive.mcap.zstd"
    packed.write_bytes(zstd.compress((folder / "bag.mcap").read_bytes()))
    check(packed, "/cam/image")
    assert open_recording(packed).name == "drive"


def test_an_sqlite_bag_without_message_definitions(tmp_path: Path) -> None:
    """As ROS 2 Humble and older write them."""
    folder = write_ros2(tmp_path / "bag", {"/cam/image": "rgb8"})
    (file,) = folder.glob("*.db3")
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    check(folder, "/cam/image")


@pytest.mark.parametrize("compression", [None, *rosbag1.Writer.CompressionFormat])
def test_ros1_bags(tmp_path: Path, compression: Any) -> None:
    check(write_ros1(tmp_path / "old.bag", compression), "/cam/image")


def test_colour_is_preferred_to_depth(tmp_path: Path) -> None:
    bag = write_ros2(tmp_path / "bag", {"/cam/aligned": "16UC1", "/cam/image": "rgb8"})
    check(bag, "/cam/image")
    assert "not played: /cam/aligned (5 depth images)" in open_recording(bag).description


def test_several_cameras_are_listed_to_choose_from(tmp_path: Path) -> None:
    bag = write_ros2(tmp_path / "bag", {"/left/image": "rgb8", "/right/image": "rgb8"})
    with pytest.raises(RecordingError, match=r"--topic: /left/image \(5 images\); /right/image \(5 images\)"):
        open_recording(bag)
    check(bag, "/right/image", chosen="/right/image")


def test_a_trackers_own_overlay_is_no_camera(tmp_path: Path) -> None:
    topics = {"/cam/image": "rgb8", "/robot/taptr/overlay": "rgb8", "/other/overlay": "rgb8"}
    bag = write_ros2(tmp_path / "bag", topics)
    with pytest.raises(RecordingError, match="several image topics"):
        open_recording(bag)
    tracked = write_ros2(tmp_path / "tracked", dict(list(topics.items())[:2]), tracks="/robot/taptr/tracks")
    check(tracked, "/cam/image")
    assert "not played: /robot/taptr/overlay (5 images with points drawn in)" in open_recording(tracked).description
    check(tracked, "/robot/taptr/overlay", chosen="/robot/taptr/overlay")
    check(write_ros2(tmp_path / "alone", {"/taptr/overlay": "rgb8"}, tracks="/taptr/tracks"), "/taptr/overlay")


def test_a_bag_with_depth_only(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="only depth images"):
        open_recording(write_ros2(tmp_path / "bag", {"/cam/depth": "16UC1"}))


def test_a_folder_of_images(tmp_path: Path) -> None:
    for index, rgb in enumerate(VIDEO):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), rgb[..., ::-1])
    source = open_recording(tmp_path)
    frames = list(source.frames)
    assert source.count == len(frames) == 5
    np.testing.assert_array_equal(np.stack([f.rgb() for f in frames]), VIDEO)
    assert np.all(np.diff([f.stamp for f in frames]) == 50_000_000)


def test_a_video_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for rgb in VIDEO:
        writer.write(np.ascontiguousarray(rgb[..., ::-1]))
    writer.release()
    source = open_recording(path)
    frames = list(source.frames)
    assert (source.name, source.count, len(frames)) == ("clip", 5, 5)
    assert frames[0].stamp > 0
    assert np.all(np.diff([f.stamp for f in frames]) == 40_000_000)
    assert np.abs(np.stack([f.rgb() for f in frames]).astype(int) - VIDEO).mean() < 10


@pytest.mark.parametrize(
    ("name", "topic", "compressed", "count", "size"),
    [
        ("parkour", "/camera/image_raw/compressed", True, 100, (480, 854)),
        ("euroc_mono", "/cam0/image_raw", False, 40, (480, 752)),
        ("rgbd_desk", "/camera/color/image_raw/compressed", True, 30, (480, 640)),
        ("real_ros1/aruco_images.bag", "/raspicam_node/image/compressed", True, 1, (960, 1280)),
        ("real_ros2_raw/soccer_goal_12.mcap", "/camera/image_raw", False, 2, (480, 640)),
    ],
)
def test_recordings_of_real_robots(
    shared_data: Path, name: str, topic: str, compressed: bool, count: int, size: tuple[int, int]
) -> None:
    with open_recording(shared_data / "bags" / name) as source:
        assert (source.topic, source.compressed, source.count) == (topic, compressed, count)
        assert next(source.frames).rgb().shape == (*size, 3)


def test_image_files_are_sorted_by_the_numbers_in_their_names(tmp_path: Path) -> None:
    for index in (0, 2, 10, 9):
        cv2.imwrite(str(tmp_path / f"frame{index}.png"), np.full((8, 8, 3), index, np.uint8))
    with open_recording(tmp_path) as recording:
        assert [int(frame.rgb()[0, 0, 0]) for frame in recording.frames] == [0, 2, 9, 10]
