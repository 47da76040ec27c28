"""What the demo plays: its own bag, recorded images as ROS messages, and the points it picks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2")
pytest.importorskip("rosbags")
from camera_process import camera_image

from taptrv2_core.recordings import CompressedImage, Frame, RawImage, open_recording
from taptrv2_ros.conversions import frame_message
from taptrv2_ros.demo.clip import write_bag
from taptrv2_ros.demo.run import spread_points
from taptrv2_ros.messages import nanoseconds

VIDEO = np.stack([camera_image(i, 48, 64) for i in range(5)])


def test_the_demos_own_bag_is_what_was_written(tmp_path: Path) -> None:
    write_bag(tmp_path / "clip", VIDEO)
    with open_recording(tmp_path / "clip") as recording:
        np.testing.assert_array_equal(np.stack([frame.rgb() for frame in recording.frames]), VIDEO)


def test_a_recorded_image_becomes_the_message_it_was() -> None:
    stamp = 1_700_000_000_123_456_789
    data = np.arange(4 * 10, dtype=np.uint8)
    raw = frame_message(Frame(stamp, stamp + 5, "cam", RawImage(data, "mono16", 4, 4, 10, big_endian=True)))
    assert (nanoseconds(raw.header.stamp), raw.header.frame_id) == (stamp, "cam")
    assert (raw.encoding, raw.height, raw.width, raw.step, raw.is_bigendian) == ("mono16", 4, 4, 10, 1)
    assert bytes(raw.data) == data.tobytes()
    packed = frame_message(Frame(stamp, stamp, "cam", CompressedImage(data, "jpeg")))
    assert (nanoseconds(packed.header.stamp), packed.format, bytes(packed.data)) == (stamp, "jpeg", data.tobytes())


def test_corners_are_many_apart_and_inside() -> None:
    image = camera_image(0, 240, 320)
    xy = spread_points(image, 50)
    assert xy.shape == (50, 2)
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + 1e6 * np.eye(50)
    assert distance.min() > 10
    assert (xy >= 0).all()
    assert (xy <= (319, 239)).all()


def test_an_image_without_corners_gets_points_all_the_same() -> None:
    xy = spread_points(np.full((100, 200, 3), 128, np.uint8), 32)
    assert xy.shape == (32, 2)
    assert (xy >= 0).all()
    assert (xy <= (199, 99)).all()
