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
from camera_process import camera_image
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

from taptrv2_core.recordings import ConversionError, RecordingError, open_recording

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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
        if "tracks" in options:
            kind = "taptrv2_ros/msg/PointTracks"
            writer.add_connection(options["tracks"], kind, msgdef="uint64[] ids", rihs01="RIHS01_0")
    return folder


def write_ros1(path: Path, compression: Any = None) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = rosbag1.Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connection = writer.add_connection("/cam/image", "sensor_msgs/msg/Image", typestore=store)
        for stamp, rgb in zip(STAMPS, VIDEO, strict=True):
            message = image(store, stamp, rgb)
            writer.write(connection, stamp, store.serialize_ros1(message, message.__msgtype__))
    return path


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


def cut(path: Path, share: float) -> Path:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def cut_sqlite(folder: Path) -> Path:
    """With less than its tables in it."""
    write_ros2(folder / "bag", {"/cam/image": "rgb8"})
    return cut(folder / "bag" / "bag.db3", 0.02)


def cut_ros1(folder: Path) -> Path:
    """With no whole chunk in it."""
    return cut(write_ros1(folder / "old.bag"), 0.5)


def empty_bag(folder: Path) -> Path:
    return write_ros2(folder / "bag", {})


def empty_video(folder: Path) -> Path:
    (folder / "clip.mp4").touch()
    return folder / "clip.mp4"


def text_file(folder: Path) -> Path:
    (folder / "notes.txt").write_text("not a recording")
    return folder / "notes.txt"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "nothing", "no such file or folder"),
        (cut_sqlite, "cannot be read as a bag: .*recover"),
        (cut_ros1, "cannot be read as a bag: .*rosbag reindex"),
        (empty_bag, "no images in this bag"),
        (empty_video, "empty"),
        (text_file, "neither a bag .* nor a video"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, make: Any, reason: str) -> None:
    with pytest.raises(RecordingError, match=reason) as caught, open_recording(make(tmp_path)) as recording:
        list(recording.frames)
    assert "\n" not in str(caught.value)


NOISE = np.random.default_rng(0).integers(0, 256, (60, 160, 240, 3)).astype(np.uint8)


def write_noise(folder: Path, storage: Any, mode: Any = None) -> Path:
    """A ROS 2 bag of images that fill chunks and pages; its one file beside the metadata."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    writer = rosbag2.Writer(folder, version=9, storage_plugin=storage)
    if mode:
        writer.set_compression(mode, rosbag2.CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/cam/image", "sensor_msgs/msg/Image", typestore=store)
        for stamp, rgb in enumerate(NOISE, start=1):
            message = image(store, stamp, rgb)
            writer.write(connection, stamp, store.serialize_cdr(message, message.__msgtype__))
    (file,) = folder.glob("bag.*")
    return file


def whole_images_of(path: Path, least: int, most: int) -> None:
    """What is whole in a bag that was cut off comes first, then it is said."""
    done = []
    with pytest.raises(RecordingError, match=r"cut off .*; the \d+ images") as caught, open_recording(path) as bag:
        done.extend(iter(bag.frames))
    assert f"the {len(done)} images" in str(caught.value)
    assert least <= len(done) <= most
    assert [f.stamp for f in done] == list(range(1, len(done) + 1))
    np.testing.assert_array_equal(np.stack([f.rgb() for f in done]), NOISE[: len(done)])


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        (rosbag2.StoragePlugin.MCAP, None),
        (rosbag2.StoragePlugin.SQLITE3, None),
        (rosbag2.StoragePlugin.SQLITE3, rosbag2.CompressionMode.FILE),
        (rosbag2.StoragePlugin.SQLITE3, rosbag2.CompressionMode.MESSAGE),
    ],
)
def test_a_ros2_bag_that_was_cut_off_gives_what_it_has_and_says_so(
    tmp_path: Path, storage: Any, mode: Any, metadata: bool
) -> None:
    file = cut(write_noise(tmp_path / "bag", storage, mode), 0.6)
    if not metadata:
        (tmp_path / "bag" / "metadata.yaml").unlink()
    whole_images_of(tmp_path / "bag", 24, 36)  # of an MCAP all but those of the last chunk, of one megabyte
    whole_images_of(file, 24, 36)


def test_an_mcap_whose_end_was_never_written_to_the_disk(tmp_path: Path) -> None:
    file = write_noise(tmp_path / "bag", rosbag2.StoragePlugin.MCAP)
    whole = file.read_bytes()
    for share in (0.58, 0.6, 0.62):
        written = int(len(whole) * share)
        file.write_bytes(whole[:written] + bytes(len(whole) - written))  # as file systems leave it without power
        whole_images_of(file, 24, 36)


@pytest.mark.parametrize("fill", [b"\0", b"\xa5"])
def test_an_mcap_whose_index_is_damaged(tmp_path: Path, fill: bytes) -> None:
    file = write_noise(tmp_path / "bag", rosbag2.StoragePlugin.MCAP)
    whole = file.read_bytes()
    footer = whole[-28:]  # where the summary begins, where its index does, its checksum; then the magic
    begin, end = int.from_bytes(footer[:8], "little"), len(whole) - 37
    file.write_bytes(whole[:begin] + fill * (end - begin) + whole[end:])
    whole_images_of(file, 60, 60)
    whole_images_of(tmp_path / "bag", 60, 60)


def test_a_file_compressed_as_a_whole_whose_end_was_never_written(tmp_path: Path) -> None:
    file = write_noise(tmp_path / "bag", rosbag2.StoragePlugin.SQLITE3, rosbag2.CompressionMode.FILE)
    whole = file.read_bytes()
    written = int(len(whole) * 0.6)
    file.write_bytes(whole[:written] + bytes(len(whole) - written))
    whole_images_of(file, 24, 36)


@pytest.mark.parametrize("storage", [rosbag2.StoragePlugin.SQLITE3, rosbag2.StoragePlugin.MCAP])
def test_a_file_compressed_as_a_whole_that_lost_its_last_bytes_is_not_taken_as_whole(
    tmp_path: Path, storage: Any
) -> None:
    plain = write_noise(tmp_path / "bag", storage)
    packed = tmp_path / f"alone{plain.suffix}.zstd"
    data = zstd.compress(plain.read_bytes(), options={zstd.CompressionParameter.checksum_flag: 1})
    packed.write_bytes(data[:-4])  # a checksum
    whole_images_of(packed, 60, 60)


def test_an_mcap_that_was_cut_off_in_its_first_chunk(tmp_path: Path) -> None:
    file = cut(write_noise(tmp_path / "bag", rosbag2.StoragePlugin.MCAP), 0.02)
    with pytest.raises(RecordingError, match="cut off before its first whole message"):
        open_recording(file)


@pytest.mark.parametrize("compression", [None, *rosbag1.Writer.CompressionFormat])
def test_a_ros1_bag_that_was_cut_off_gives_what_it_has_and_says_so(tmp_path: Path, compression: Any) -> None:
    whole_images_of(cut(write_noise_ros1(tmp_path / "old.bag", compression), 0.6), 24, 36)


def test_a_ros1_recorder_that_was_killed_leaves_a_bag_without_index(tmp_path: Path) -> None:
    data = write_noise_ros1(tmp_path / "old.bag").read_bytes()
    place = data.index(b"index_pos=") + len(b"index_pos=")
    index = int.from_bytes(data[place : place + 8], "little")
    active = tmp_path / "old.bag.active"
    active.write_bytes(data[:place] + bytes(8) + data[place + 8 : index])
    whole_images_of(active, 60, 60)
    assert open_recording(active).name == "old"


def write_noise_ros1(path: Path, compression: Any = None) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = rosbag1.Writer(path)
    writer.chunk_threshold = 1 << 18
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connection = writer.add_connection("/cam/image", "sensor_msgs/msg/Image", typestore=store)
        for stamp, rgb in enumerate(NOISE, start=1):
            message = image(store, stamp, rgb)
            writer.write(connection, stamp, store.serialize_ros1(message, message.__msgtype__))
            if stamp == 5:  # a topic that the first chunk does not know of
                other = writer.add_connection("/other", "std_msgs/msg/String", typestore=store)
                text = store.types["std_msgs/msg/String"]("here")
                writer.write(other, stamp, store.serialize_ros1(text, text.__msgtype__))
    return path


def test_a_video_that_was_cut_short_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for index in range(40):
        writer.write(np.ascontiguousarray(VIDEO[index % 5][..., ::-1]))
    writer.release()
    done = []
    with pytest.raises(RecordingError, match=r"after \d+ of 40 frames"), open_recording(cut(path, 0.5)) as recording:
        done.extend(iter(recording.frames))
    assert 10 < len(done) < 30


def test_an_image_of_an_unknown_encoding_is_refused_alone(tmp_path: Path) -> None:
    with open_recording(write_ros2(tmp_path / "bag", {"/cam/image": "jxl8"})) as recording:
        frames = list(recording.frames)
    assert len(frames) == 5
    with pytest.raises(ConversionError, match="encoding 'jxl8' is not supported"):
        frames[0].rgb()


def test_a_damaged_file_among_images_is_refused_alone(tmp_path: Path) -> None:
    for index in (0, 2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), VIDEO[index])
    (tmp_path / "1.png").write_bytes(b"\x89PNG")
    with open_recording(tmp_path) as recording:
        before, damaged, after = recording.frames
    with pytest.raises(ConversionError, match=r"cannot be decoded: .*1\.png"):
        damaged.rgb()
    np.testing.assert_array_equal(after.rgb()[..., ::-1], VIDEO[2])
    assert before.stamp < damaged.stamp < after.stamp
