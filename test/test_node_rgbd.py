"""A real RGB-D recording through the node, over real DDS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from ros_harness import Setup, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2


def bag_messages(folder: Path) -> list[tuple[str, bytes]]:
    """Type and bytes of each message, in their order."""
    highlevel = pytest.importorskip("rosbags.highlevel")
    with highlevel.AnyReader([folder]) as reader:
        return [(connection.msgtype.split("/")[-1], raw) for connection, _, raw in reader.messages()]


def test_a_real_recording_gives_points_on_a_board(shared_data: Path, tmp_path: Path) -> None:
    """Depth 12 ms later than colour, every seventh missing; shipped weights; a flat calibration board a metre away."""
    messages = bag_messages(shared_data / "bags" / "rgbd_desk")
    with Setup(tmp_path, Path("small"), kind="compressed", depth_topic="/test/depth") as setup:
        node, robot = setup.robot.node, setup.robot
        clouds: list[PointCloud2] = []
        node.create_subscription(PointCloud2, "/taptr/points", clouds.append, 50)
        publishers = {
            "CompressedImage": node.create_publisher(CompressedImage, "/test/image_raw/compressed", 50),
            "CameraInfo": node.create_publisher(CameraInfo, "/test/camera_info", 50),
            "Image": node.create_publisher(Image, "/test/depth", 50),
        }
        for publisher in publishers.values():
            wait_until(lambda p=publisher: p.get_subscription_count() > 0, "the node")
        robot.wait_for_node()
        calibration = next(raw for kind, raw in messages if kind == "CameraInfo")
        publishers["CameraInfo"].publish(calibration)
        wait_until(lambda: "calibration on" in setup.log.read_text(), "the calibration")
        for kind, raw in messages:
            expected = len(robot.tracks) + 1
            publishers[kind].publish(raw)
            if kind == "CompressedImage":
                wait_until(lambda n=expected: len(robot.tracks) == n, f"tracks {expected}")
                if expected == 1:
                    corners = [(160.0, 25.0), (370.0, 75.0), (370.0, 140.0), (165.0, 230.0)]
                    assert robot.add_region(corners, count=40, group="board").success
        wait_until(lambda: len(clouds) == 26, "26 clouds")
        assert len(robot.tracks) == 30
    for cloud in clouds[1:]:
        places = np.frombuffer(cloud.data, np.float32).reshape(-1, cloud.point_step // 4)[:, :3]
        places = places[np.isfinite(places).all(axis=1)].astype(float)
        assert len(places) >= 30
        middle = places.mean(axis=0)
        assert 0.8 < middle[2] < 1.2
        _, _, axes = np.linalg.svd(places - middle)
        assert np.median(np.abs((places - middle) @ axes[2])) < 0.015
