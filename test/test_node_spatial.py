"""Points in space and pictures of the node, over real DDS."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
pytest.importorskip("yaml")
import yaml
from camera_process import camera_image, camera_stamp
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import SIZE, Setup, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tiny import tiny_model
from visualization_msgs.msg import MarkerArray

from taptrv2_core import save_checkpoint
from taptrv2_ros.msg import PointTracks

FOCAL, DEPTH, LATE = 100.0, 2.0, 12_000_000
FIELDS = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("id", "<u4"), ("visibility", "<f4"), ("group", "<u4")])


class DepthCamera:
    """Publishes depth and calibration, and collects what the node makes of them."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.node = setup, setup.robot.node
        self.depth = self.node.create_publisher(Image, "/test/depth", 10)
        self.info = self.node.create_publisher(CameraInfo, "/test/camera_info", 10)
        self.clouds: list[PointCloud2] = []
        self.markers: list[MarkerArray] = []
        self.node.create_subscription(PointCloud2, "/taptr/points", self.clouds.append, 50)
        self.node.create_subscription(MarkerArray, "/taptr/markers", self.markers.append, 50)
        self.index = count()
        wait_until(lambda: self.depth.get_subscription_count() and self.info.get_subscription_count(), "the node")
        setup.robot.wait_for_node()

    def publish_info(self) -> None:
        k = [FOCAL, 0.0, 31.5, 0.0, FOCAL, 23.5, 0.0, 0.0, 1.0]
        self.info.publish(CameraInfo(height=SIZE[0], width=SIZE[1], k=k))

    def publish_depth(self, index: int, encoding: str = "16UC1", frame: str = "") -> None:
        values = np.full(SIZE, round(1000 * DEPTH), dtype=np.uint16)
        message = Image(height=SIZE[0], width=SIZE[1], encoding=encoding, step=2 * SIZE[1])
        message.data = array("B", values.tobytes())
        message.header.frame_id = frame or f"camera_{index}"
        message.header.stamp.sec, message.header.stamp.nanosec = camera_stamp(index)
        message.header.stamp.nanosec += LATE
        self.depth.publish(message)

    def follow(self, depth: bool = True, **fields: Any) -> PointTracks:
        """One more image, and its depth after its tracks have come."""
        index = next(self.index)
        (tracks,) = self.setup.track(1, index)
        if depth:
            self.publish_depth(index, **fields)
        return tracks


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DepthCamera]:
    folder = tmp_path_factory.mktemp("spatial")
    save_checkpoint(tiny_model(4), folder / "tiny.pt")
    with Setup(folder, folder / "tiny.pt", depth_topic="/test/depth") as running:
        yield DepthCamera(running)


def records(cloud: PointCloud2) -> np.ndarray:
    assert [f.name for f in cloud.fields] == list(FIELDS.names)
    return np.frombuffer(cloud.data, dtype=FIELDS)


def test_without_calibration_it_says_so_and_tracks_on(camera: DepthCamera) -> None:
    camera.follow()
    camera.setup.robot.add_region([(8.0, 8.0), (56.0, 40.0)], count=20, group="mug")
    for _ in range(6):
        assert len(camera.follow().ids) == 20
    said = "points in space: depth comes, but no camera_info on '/test/camera_info'"
    wait_until(lambda: said in camera.setup.log.read_text(), "the warning")
    assert camera.setup.log.read_text().count(said) == 1
    camera.setup.robot.wait_for_diagnosis("camera", "no camera_info on '/test/camera_info'", DiagnosticStatus.WARN)
    assert camera.clouds == []


def test_points_are_where_pixel_and_depth_put_them(camera: DepthCamera) -> None:
    camera.publish_info()
    sent = [(camera.follow(depth=number % 3 != 2), number % 3 != 2) for number in range(9)]
    with_depth = [tracks for tracks, depth in sent if depth]
    wait_until(lambda: len(camera.clouds) >= 6, "the clouds")
    assert [c.header for c in camera.clouds] == [t.header for t in with_depth]  # none for images without depth
    for cloud, tracks in zip(camera.clouds, with_depth, strict=True):
        points = records(cloud)
        assert points["id"].tolist() == list(tracks.ids)
        assert points["group"].tolist() == [1] * 20
        np.testing.assert_array_equal(points["visibility"], tracks.visibility)
        x, y = np.array(tracks.x), np.array(tracks.y)
        seen = np.array(tracks.visible, bool) & (x > -0.4) & (x < 63.4) & (y > -0.4) & (y < 47.4)
        assert np.isnan(points["z"][~np.array(tracks.visible, bool)]).all()
        np.testing.assert_allclose(points["z"][seen], DEPTH)
        np.testing.assert_allclose(points["x"][seen], DEPTH * (x[seen] - 31.5) / FOCAL, atol=1e-5)
        np.testing.assert_allclose(points["y"][seen], DEPTH * (y[seen] - 23.5) / FOCAL, atol=1e-5)
    assert any(np.isfinite(records(c)["z"]).any() for c in camera.clouds)
    wait_until(lambda: len(camera.markers) >= 6, "the markers")
    spheres = [m for message in camera.markers for m in message.markers if m.points]
    assert {m.ns for m in spheres} == {"mug"}
    assert sum(len(m.points) for m in spheres) == sum(np.isfinite(records(c)["z"]).sum() for c in camera.clouds)


def test_depth_that_cannot_be_used_is_told_once(camera: DepthCamera) -> None:
    log = camera.setup.log
    before = len(camera.clouds)
    for _ in range(2):
        camera.follow(encoding="rgb8")
    camera.follow(frame="another_frame")
    wait_until(lambda: len(camera.clouds) == before + 1, "the cloud")
    wait_until(lambda: "depth is in frame 'another_frame'" in log.read_text(), "the warning")
    assert log.read_text().count("encoding 'rgb8' is no depth") == 1
    missing = "no depth on '/test/depth' within 0.02 s of the images' stamps"
    assert missing not in log.read_text()  # though some images had none
    for _ in range(25):
        camera.follow(depth=False)
    camera.setup.robot.wait_for_diagnosis("camera", missing, DiagnosticStatus.WARN)
    assert log.read_text().count(missing) == 1


def test_compressed_depth_from_a_topic_set_while_inactive(camera: DepthCamera) -> None:
    robot = camera.setup.robot
    topic = "/test/depth/compressedDepth"
    refused = robot.set_parameter("depth_topic", topic)
    assert not refused.successful
    assert "'depth_topic' can be set only while the node is not active" in refused.reason
    assert robot.transition("deactivate")
    assert robot.set_parameter("depth_topic", topic).successful
    assert robot.transition("activate")
    publisher = camera.node.create_publisher(CompressedImage, topic, 10)
    wait_until(lambda: publisher.get_subscription_count() and camera.info.get_subscription_count(), "the node")
    values = np.full(SIZE, round(1500 * DEPTH), dtype=np.uint16)
    png = bytes(12) + cv2.imencode(".png", values)[1].tobytes()
    message = CompressedImage(format="16UC1; compressedDepth png", data=array("B", png))
    camera.clouds.clear()

    def arrived() -> bool:
        camera.publish_info()
        tracks = camera.follow(depth=False)
        message.header = tracks.header
        publisher.publish(message)
        return bool(camera.clouds)

    wait_until(arrived, "a cloud")
    known = [z for z in records(camera.clouds[-1])["z"] if np.isfinite(z)]
    np.testing.assert_allclose(known, 1.5 * DEPTH)
    assert known


def test_the_overlay_is_the_image_with_the_points_in_it(camera: DepthCamera) -> None:
    raw: list[Image] = []
    compressed: list[CompressedImage] = []
    node = camera.node
    subscriptions = [
        node.create_subscription(Image, "/taptr/overlay", raw.append, 10),
        node.create_subscription(CompressedImage, "/taptr/overlay/compressed", compressed.append, 10),
    ]
    camera.setup.robot.clear()
    wait_until(lambda: [camera.follow(), raw and compressed][1], "the overlay")
    camera.setup.robot.add([(20.0, 30.0)])
    tracks = camera.follow()

    def arrived() -> bool:
        return all(any(m.header == tracks.header for m in messages) for messages in (raw, compressed))

    wait_until(arrived, "the overlay of the newest image")
    (picture,) = (m for m in raw if m.header == tracks.header)
    (jpeg,) = (m for m in compressed if m.header == tracks.header)
    assert (picture.encoding, picture.height, picture.width, picture.step) == ("rgb8", *SIZE, 3 * SIZE[1])
    shown = np.frombuffer(picture.data, np.uint8).reshape(*SIZE, 3).astype(float)
    decoded = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    assert np.abs(shown - decoded).mean() < 10
    plain = 0.8 * camera_image(int(tracks.header.frame_id.removeprefix("camera_")), *SIZE)
    changed = np.argwhere(np.abs(shown - plain).max(axis=-1) > 4)
    assert len(changed)
    far = np.abs(changed - (tracks.y[0], tracks.x[0])).max(axis=1) > 30
    assert not far.any()
    for subscription in subscriptions:
        node.destroy_subscription(subscription)


def plotted(layout: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of all plots of the Foxglove layout."""
    return [path for name, panel in layout.items() if name.startswith("Plot!") for path in panel["paths"]]


def displayed(project_root: Path) -> list[tuple[str, str]]:
    """Topic and type of everything RViz and Foxglove are told to show or publish."""
    rviz = yaml.safe_load((project_root / "config/taptr.rviz").read_text())
    kinds = {
        "Image": "sensor_msgs/msg/Image",
        "PointCloud2": "sensor_msgs/msg/PointCloud2",
        "MarkerArray": "visualization_msgs/msg/MarkerArray",
    }
    displays = [d for d in rviz["Visualization Manager"]["Displays"] if "Topic" in d]
    found = [(d["Topic"]["Value"], kinds[d["Class"].split("/")[1]]) for d in displays]
    layout = json.loads((project_root / "config/taptr_foxglove.json").read_text())["configById"]
    image = layout["Image!camera"]
    found += [
        (image["imageMode"]["imageTopic"], "sensor_msgs/msg/CompressedImage"),
        (image["publish"]["pointTopic"], "geometry_msgs/msg/PointStamped"),
        (layout["RawMessages!tracks"]["topicPath"], "taptrv2_ros/msg/PointTracks"),
    ]
    found += [(path["value"].split(".")[0], "taptrv2_ros/msg/PointTracks") for path in plotted(layout)]
    space = {"points": "sensor_msgs/msg/PointCloud2", "markers": "visualization_msgs/msg/MarkerArray"}
    return found + [(topic, space[topic.rpartition("/")[2]]) for topic in layout["3D!space"]["topics"]]


def test_rviz_and_foxglove_open_on_topics_there_are(camera: DepthCamera, project_root: Path) -> None:
    topics = dict(camera.node.get_topic_names_and_types())
    wanted = displayed(project_root)
    assert len(wanted) >= 10
    for topic, kind in wanted:
        assert kind in topics.get(topic, []), topic


def panels(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    else:
        yield from panels(tree["first"])
        yield from panels(tree["second"])


def test_the_foxglove_layout_shows_every_panel_and_fields_there_are(project_root: Path) -> None:
    layout = json.loads((project_root / "config/taptr_foxglove.json").read_text())
    assert set(panels(layout["layout"])) == set(layout["configById"])
    fields = PointTracks.get_fields_and_field_types()
    for path in plotted(layout["configById"]):
        assert path["value"].split(".")[1].split("[")[0] in fields
        assert path["timestampMethod"] == "receiveTime"  # by its images' stamps a played bag lies years before now
    assert layout["configById"]["3D!space"]["topics"]["/taptr/points"]["colorField"] in FIELDS.names


def test_foxglove_and_rviz_look_from_the_same_frame(project_root: Path) -> None:
    rviz = yaml.safe_load((project_root / "config/taptr.rviz").read_text())["Visualization Manager"]
    space = json.loads((project_root / "config/taptr_foxglove.json").read_text())["configById"]["3D!space"]
    assert space["followTf"] == rviz["Global Options"]["Fixed Frame"]
    assert space["scene"]["transforms"]["showLabel"] is False  # 0.2 m high, in front of the points
