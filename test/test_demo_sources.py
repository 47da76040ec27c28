"""Recordings of every kind come out as the images that went in, in order, with their stamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2")
pytest.importorskip("rosbags")
from camera_process import camera_image
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

from taptrv2_ros.conversions import to_rgb
from taptrv2_ros.demo.clip import write_bag
from taptrv2_ros.demo.errors import InputError
from taptrv2_ros.demo.seeding import spread_corners
from taptrv2_ros.demo.source import open_source
from taptrv2_ros.messages import nanoseconds

VIDEO = np.stack([camera_image(i, 48, 64) for i in range(5)])
STAMPS = [1_700_000_000_000_000_000 + i * 50_000_000 for i in range(5)]


def image(store: Any, stamp: int, rgb: np.ndarray, encoding: str = "rgb8", frame_id: str = "cam") -> Any:
    types = store.types
    header = types["std_msgs/msg/Header"]
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    extra = {"seq": 0} if "seq" in header.__dataclass_fields__ else {}
    data = np.ascontiguousarray(rgb).view(np.uint8).reshape(-1)
    return types["sensor_msgs/msg/Image"](
        header=header(stamp=time, frame_id=frame_id, **extra),
        height=rgb.shape[0], width=rgb.shape[1], encoding=encoding, is_bigendian=0,
        step=data.size // rgb.shape[0], data=data,
    )  # fmt: skip


def write_ros2(folder: Path, topics: dict[str, str], **options: Any) -> Path:
    """A ROS 2 bag with the video on every topic, in that topic's encoding."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    writer = rosbag2.Writer(folder, version=9, storage_plugin=options.get("storage", rosbag2.StoragePlugin.SQLITE3))
    if "compression" in options:
        writer.set_compression(options["compression"], rosbag2.CompressionFormat.ZSTD)
    with writer:
        for topic, encoding in topics.items():
            connection = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
            for stamp, rgb in zip(STAMPS, VIDEO, strict=True):
                pixels = rgb[..., 0].astype(np.uint16) if encoding == "16UC1" else rgb
                message = image(store, stamp, pixels, encoding)
                writer.write(connection, stamp, store.serialize_cdr(message, message.__msgtype__))
    return folder


def check(path: Path, topic: str, chosen: str | None = None) -> None:
    source = open_source(path, chosen)
    assert (source.topic, source.compressed, source.count) == (topic, False, 5)
    messages = list(source.messages)
    assert [nanoseconds(m.header.stamp) for m in messages] == STAMPS
    assert {m.header.frame_id for m in messages} == {"cam"}
    np.testing.assert_array_equal(np.stack([to_rgb(m) for m in messages]), VIDEO)


@pytest.mark.parametrize("storage", list(rosbag2.StoragePlugin))
@pytest.mark.parametrize("compression", [None, rosbag2.CompressionMode.FILE, rosbag2.CompressionMode.MESSAGE])
def test_ros2_bags(tmp_path: Path, storage: Any, compression: Any) -> None:
    if storage is rosbag2.StoragePlugin.MCAP and compression is rosbag2.CompressionMode.FILE:
        pytest.skip("MCAP has compression of its own; whole files are compressed in SQLite bags only")
    options = {"compression": compression} if compression else {}
    check(write_ros2(tmp_path / "bag", {"/cam/image": "rgb8"}, storage=storage, **options), "/cam/image")


@pytest.mark.parametrize("compression", [None, rosbag2.CompressionMode.MESSAGE])
def test_an_mcap_without_its_metadata(tmp_path: Path, compression: Any) -> None:
    options = {"compression": compression} if compression else {}
    folder = write_ros2(tmp_path / "bag", {"/cam/image": "rgb8"}, storage=rosbag2.StoragePlugin.MCAP, **options)
    (folder / "metadata.yaml").unlink()
    (file,) = folder.iterdir()
    check(file, "/cam/image")
    check(folder, "/cam/image")


def test_a_ros1_bag(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    with rosbag1.Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/cam/image", "sensor_msgs/msg/Image", typestore=store)
        for stamp, rgb in zip(STAMPS, VIDEO, strict=True):
            message = image(store, stamp, rgb)
            writer.write(connection, stamp, store.serialize_ros1(message, message.__msgtype__))
    check(tmp_path / "old.bag", "/cam/image")


def test_colour_is_preferred_to_depth(tmp_path: Path) -> None:
    bag = write_ros2(tmp_path / "bag", {"/cam/aligned": "16UC1", "/cam/image": "rgb8"})
    check(bag, "/cam/image")
    assert "not played: /cam/aligned (5 depth images)" in open_source(bag).description


def test_several_cameras_are_listed_to_choose_from(tmp_path: Path) -> None:
    bag = write_ros2(tmp_path / "bag", {"/left/image": "rgb8", "/right/image": "rgb8"})
    with pytest.raises(InputError, match=r"--topic: /left/image \(5 images\); /right/image \(5 images\)"):
        open_source(bag)
    check(bag, "/right/image", chosen="/right/image")


def test_a_bag_with_depth_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only depth images"):
        open_source(write_ros2(tmp_path / "bag", {"/cam/depth": "16UC1"}))


def test_a_folder_of_images(tmp_path: Path) -> None:
    for index, rgb in enumerate(VIDEO):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), rgb[..., ::-1])
    source = open_source(tmp_path)
    messages = list(source.messages)
    assert source.count == len(messages) == 5
    np.testing.assert_array_equal(np.stack([to_rgb(m) for m in messages]), VIDEO)
    assert np.all(np.diff([nanoseconds(m.header.stamp) for m in messages]) == 50_000_000)


def test_a_video_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for rgb in VIDEO:
        writer.write(np.ascontiguousarray(rgb[..., ::-1]))
    writer.release()
    source = open_source(path)
    messages = list(source.messages)
    assert (source.name, source.count, len(messages)) == ("clip", 5, 5)
    assert nanoseconds(messages[0].header.stamp) > 0
    assert np.all(np.diff([nanoseconds(m.header.stamp) for m in messages]) == 40_000_000)
    assert np.abs(np.stack([to_rgb(m) for m in messages]).astype(int) - VIDEO).mean() < 10


def test_the_demos_own_bag_is_what_was_written(tmp_path: Path) -> None:
    write_bag(tmp_path / "clip", VIDEO)
    np.testing.assert_array_equal(np.stack([to_rgb(m) for m in open_source(tmp_path / "clip").messages]), VIDEO)


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
    with open_source(shared_data / "bags" / name) as source:
        assert (source.topic, source.compressed, source.count) == (topic, compressed, count)
        assert to_rgb(next(source.messages)).shape == (*size, 3)


def test_corners_are_many_apart_and_inside() -> None:
    image = camera_image(0, 240, 320)
    xy = spread_corners(image, 50)
    assert xy.shape == (50, 2)
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + 1e6 * np.eye(50)
    assert distance.min() > 10
    assert (xy >= 0).all()
    assert (xy <= (319, 239)).all()


def test_an_image_without_corners_gets_a_grid() -> None:
    xy = spread_corners(np.full((100, 200, 3), 128, np.uint8), 32)
    assert 25 <= len(xy) <= 32
    assert (xy >= 0).all()
    assert (xy <= (199, 99)).all()
