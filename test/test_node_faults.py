"""Whatever happens to cameras and clients, over real DDS: one node with five cameras stays up through all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from camera_process import camera_image
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_harness import SIZE, Camera, Robot, wait_until
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core import Tracker, load_model
from taptrv2_ros.demo.node_process import NodeProcess
from taptrv2_ros.first_contact import FirstContact
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.srv import AddPoints, ListPoints, RemovePoints

START = [(20.0, 10.0), (40.5, 30.25)]
FLOOD = QoSProfile(depth=100)
NAMES = ["front", "rear", "mute", "shy", "odd"]


class Robots:
    """One node, two cameras that publish, and a client of each; three cameras from which nothing comes."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.log = folder / "node.log"
        parameters = {
            "cameras": NAMES, "image_reliability": "reliable", "image_queue": 100,
            "weights": str(weights), "device": "cpu", "dtype": "float32", "threads": 1,
        }  # fmt: skip
        with ExitStack() as stack:
            self.robots = {name: stack.enter_context(closing(Robot(f"/taptr/{name}"))) for name in ("front", "rear")}
            self.process = stack.enter_context(NodeProcess(parameters, self.log, lambda _: None))
            self.cameras = {name: stack.enter_context(closing(Camera(f"/{name}/image_raw"))) for name in self.robots}
            for robot in self.robots.values():
                robot.wait_for_node(self.process)
            self._stack = stack.pop_all()
        self.front, self.rear = self.robots.values()

    def track(self, name: str, start: int, count: int = 1) -> list[PointTracks]:
        """Images one at a time; returns all their tracks."""
        robot = self.robots[name]
        found = []
        for index in range(start, start + count):
            before = len(robot.tracks)
            self.cameras[name].publish(1, index)
            wait_until(lambda robot=robot, before=before: len(robot.tracks) > before, f"tracks of {index}")
            found.append(robot.tracks[-1])
        return found

    def close(self) -> None:
        self._stack.close()
        assert self.process.stop() == 0


@pytest.fixture(scope="module")
def robots(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Robots]:
    robots = Robots(tmp_path_factory.mktemp("faults"), weights)
    yield robots
    robots.close()
    assert "Traceback" not in robots.log.read_text()


def test_two_cameras_are_tracked_apart(robots: Robots, weights: Path) -> None:
    """Each as if it were alone; images of both, there together, go through the network as a batch."""
    model = load_model(weights, device="cpu")
    expected = {name: Tracker(model) for name in ("front", "rear")}
    points = {"front": START, "rear": [(5.0, 40.0)]}
    for name, robot in robots.robots.items():
        robots.track(name, 0)
        expected[name].step(camera_image(0, *SIZE))
        assert list(robot.add(points[name]).ids) == expected[name].add_points(points[name])
    for index in range(1, 10):
        for name in ("front", "rear"):
            robots.cameras[name].order(1, index)
        for name, robot in robots.robots.items():
            robots.cameras[name].wait()
            tracks = expected[name].step(camera_image(index, *SIZE))
            message = robot.wait_for_tracks(f"camera_{index}")
            assert list(message.ids) == tracks.ids.tolist()
            np.testing.assert_allclose(message.x, tracks.x, atol=1e-2)
            np.testing.assert_allclose(message.y, tracks.y, atol=1e-2)
    assert robots.front.remove([0]).success
    assert list(robots.rear.list().ids) == [0]


def test_a_bag_that_loops_starts_anew(robots: Robots) -> None:
    front = robots.front
    before = robots.track("front", 100, 3)[-1]
    (point,) = front.add(START[:1]).ids
    assert list(robots.track("front", 103)[0].ids) == [point]
    again = robots.track("front", 100, 2)
    assert [(m.reset_count, m.frame_index, len(m.ids)) for m in again] == [
        (before.reset_count + 1, 0, 0),
        (before.reset_count + 1, 1, 0),
    ]
    wait_until(lambda: front.status[-1].reset_count == again[0].reset_count, "the new status")
    assert front.status[-1].reset_reason == "stamps went back by 0.3 s"
    front.wait_for_diagnosis("camera front", "tracking started anew: stamps went back", DiagnosticStatus.WARN)
    (new,) = front.add(START[:1]).ids
    assert new > point
    assert list(robots.track("front", 102)[0].ids) == [new]
    late = Robot("/taptr/front")  # the status is kept for those who come later
    wait_until(lambda: [s.reset_count for s in late.status] == [again[0].reset_count], "the kept status")
    late.close()


def test_a_camera_that_stalled_starts_anew_and_one_that_stutters_does_not(robots: Robots) -> None:
    front = robots.front
    resets = robots.track("front", 200)[-1].reset_count
    ids = list(front.add(START).ids)
    assert list(robots.track("front", 209)[0].ids) == ids  # 0.9 s
    values = front.wait_for_diagnosis("camera front", "no image came for", DiagnosticStatus.ERROR)
    assert values["points"] == "2"
    message = robots.track("front", 220)[0]  # 1.1 s
    assert (message.reset_count, len(message.ids)) == (resets + 1, 0)
    wait_until(lambda: front.status[-1].reset_count == resets + 1, "the new status")
    assert front.status[-1].reset_reason == "no image for 1.1 s by their stamps (max_gap is 1 s)"
    assert front.set_parameter("max_gap", 0.0).successful
    assert robots.track("front", 400)[0].reset_count == resets + 1
    assert front.set_parameter("max_gap", 1.0).successful


def test_a_repeated_image_is_left_out(robots: Robots) -> None:
    front = robots.front
    first = robots.track("front", 500)[0]
    robots.cameras["front"].publish(2, 500)  # the same once more, and the next one
    robots.cameras["front"].publish(1, 501)
    second = front.wait_for_tracks("camera_501")
    assert second.frame_index == first.frame_index + 1
    wait_until(lambda: int(front.values("camera front").get("repeated", 0)) >= 2, "diagnostics")


def test_diagnostics_say_why_no_image_comes(robots: Robots) -> None:
    front = robots.front
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    front.node.create_publisher(Image, "/shy/image_raw", best_effort)
    front.node.create_publisher(CompressedImage, "/odd/image_raw", 1)
    error = DiagnosticStatus.ERROR
    front.wait_for_diagnosis(
        "camera mute", "nobody publishes '/mute/image_raw'; images are published on /front/im", error
    )
    front.wait_for_diagnosis("camera shy", "published best effort and image_reliability is reliable", error)
    front.wait_for_diagnosis("camera odd", "carries sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image", error)


def test_nearly_black_images_are_tracked_and_told(robots: Robots) -> None:
    """Else they would pass for points that are hidden."""
    front = robots.front
    robots.track("front", 510)
    robots.cameras["front"].publish(3, 511, fault="12 bits")
    front.wait_for_tracks("camera_513")
    values = front.wait_for_diagnosis("camera front", "images are nearly black", DiagnosticStatus.WARN)
    assert int(values["dark"]) in (1, 2, 3)
    told = (
        "images on '/front/image_raw' are nearly black, so that nothing can be tracked: mono16 counts from 0 to 65535"
    )
    wait_until(lambda: robots.log.read_text().count(told) == 1, "the warning")


def test_faulty_images_and_refused_requests_are_counted_in_diagnostics(robots: Robots) -> None:
    rear = robots.rear
    robots.track("rear", 600)
    wait_until(lambda: bool(rear.values("camera rear")), "diagnostics")
    before = rear.values("camera rear")
    assert not rear.remove([4711]).success
    assert not rear.add([(-3.0, 2.0)]).success
    robots.cameras["rear"].order(30, 601, period=0.1, fault="encoding")
    rear.wait_for_diagnosis("camera rear", "encoding 'hologram' is not supported", DiagnosticStatus.ERROR)
    robots.cameras["rear"].wait()
    assert int(rear.values("camera rear")["requests refused"]) == int(before["requests refused"]) + 2
    assert robots.log.read_text().count("hologram") == 1


def test_clients_that_flood_hold_up_neither_images_nor_each_other(robots: Robots) -> None:
    front, rear = robots.front, robots.rear
    for name in ("front", "rear"):
        robots.track(name, 700)
    before = len(front.tracks)
    robots.cameras["front"].order(30, 701, period=0.05)
    clients = [front.node.create_client(AddPoints, "/taptr/front/add_points", qos_profile=FLOOD) for _ in range(4)]
    wait_until(FirstContact(front.node.create_client(ListPoints, "/taptr/front/list_points")).made, "first contact")
    flood = [client.call_async(AddPoints.Request(x=[5.0], y=[6.0])) for _ in range(20) for client in clients]
    assert rear.remove(list(rear.add(START).ids)).success  # another client is served meanwhile
    wait_until(lambda: all(f.done() for f in flood), "all answers")
    ids = [i for f in flood for i in f.result().ids]
    assert len(set(ids)) == 80
    robots.cameras["front"].wait()
    wait_until(lambda: front.tracks[-1].header.frame_id == "camera_730", "the newest image's tracks")
    assert len(front.tracks) - before > 10
    assert front.call(RemovePoints, ids=ids).success


def test_lazy_cameras_sleep_while_nobody_listens(robots: Robots) -> None:
    front, rear = robots.front, robots.rear
    assert front.set_parameter("lazy", True).successful
    wait_until(lambda: front.node.count_subscribers("/mute/image_raw") == 0, "the end of a subscription nobody needs")
    wait_until(lambda: front.node.count_subscribers("/front/image_raw") == 1, "a subscription: this robot listens")
    front.wait_for_diagnosis("camera mute", "nobody subscribes to results", DiagnosticStatus.OK)
    listener = rear.node.create_subscription(PointTracks, "/taptr/mute/tracks", lambda _: None, 1)
    wait_until(lambda: front.node.count_subscribers("/mute/image_raw") == 1, "the subscription")
    rear.node.destroy_subscription(listener)
    wait_until(lambda: front.node.count_subscribers("/mute/image_raw") == 0, "its end")
    assert front.set_parameter("lazy", False).successful
    wait_until(lambda: front.node.count_subscribers("/mute/image_raw") == 1, "all subscriptions again")
