"""Recordings that were cut off or damaged: what is whole in them comes out, and what is wrong is said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")
from bag_writing import VIDEO, image, write_ros1, write_ros2
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

from taptrv2_core.recordings import ConversionError, RecordingError, open_recording

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


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
    with pytest.raises(ConversionError, match=r"PNG is cut short: .*1\.png"):
        damaged.rgb()
    np.testing.assert_array_equal(after.rgb()[..., ::-1], VIDEO[2])
    assert before.stamp < damaged.stamp < after.stamp
