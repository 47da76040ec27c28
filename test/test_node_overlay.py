"""The overlay is drawn only while somebody looks, over real DDS; the node is in this process, to see it draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from ros_harness import IMAGES, Camera, Robot, node_in_this_process, wait_until
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from taptrv2_core import Tracks
from taptrv2_core.stamps import Continuity
from taptrv2_ros.lifecycle import TrackerNode
from taptrv2_ros.overlay_topics import OverlayTopics
from taptrv2_ros.session import Frame, FrameResult, Received, TrackedFrame


class Watched:
    """What the only camera's overlay draws."""

    def __init__(self, node: TrackerNode) -> None:
        assert node.tracking is not None
        self.tracking = node.tracking
        (camera,) = node.tracking.cameras
        self.part = next(part for part in camera.parts if isinstance(part, OverlayTopics))
        self.count = 0
        draw = self.part._drawer.draw

        def counted(*arguments: Any) -> Any:
            self.count += 1
            return draw(*arguments)

        self.part._drawer.draw = counted  # type: ignore[method-assign]

    def drawn(self) -> int:
        """How many pictures were drawn, with those of all images whose tracks are out."""
        self.tracking._worker.call(lambda: None)  # tracks go out before the overlay has the image
        self.part._worker.call(lambda: None)
        return self.count

    def wait(self, wanted: bool) -> None:
        """Until the node knows that somebody looks, or that nobody does."""
        wait_until(lambda: self.part.wanted() is wanted, "the node's view of its subscribers")


def test_the_overlay_is_drawn_only_while_somebody_subscribes(weights: Path) -> None:
    with node_in_this_process(weights) as node:
        robot, camera = Robot(), Camera(IMAGES)
        try:
            assert robot.transition("configure")
            assert robot.transition("activate")
            overlay = Watched(node)

            def track(start: int) -> None:
                for index in range(start, start + 3):
                    camera.publish(1, index)
                    robot.wait_for_tracks(f"camera_{index}")

            track(0)
            robot.add([(20.0, 10.0)])
            track(3)
            assert overlay.drawn() == 0

            start = 6
            for kind, topic in ((Image, "/taptr/overlay"), (CompressedImage, "/taptr/overlay/compressed")):
                pictures: list[Any] = []
                before = overlay.drawn()
                subscription = robot.node.create_subscription(kind, topic, pictures.append, 10)
                overlay.wait(True)
                track(start)
                wait_until(lambda pictures=pictures: bool(pictures), f"pictures on {topic}")
                assert overlay.drawn() > before
                assert pictures[0].header.frame_id in {f"camera_{index}" for index in range(start, start + 3)}

                robot.node.destroy_subscription(subscription)
                overlay.wait(False)
                before = overlay.drawn()
                track(start + 3)
                assert overlay.drawn() == before
                start += 6
            assert pictures[0].format.startswith("rgb8; jpeg")
        finally:
            camera.close()
            robot.close()


def test_points_not_found_yet_are_not_drawn(weights: Path) -> None:
    with node_in_this_process(weights) as node:
        assert node.trigger_configure()
        overlay = Watched(node)
        drawer, seen = overlay.part._drawer, list[Any]()
        drawer.draw = lambda *arguments: seen.append(arguments) or arguments[0]  # type: ignore[method-assign,func-returns-value]
        arrays = [3, 4], [5.0, 6.0], [7.0, 8.0], [0.1, 0.1], [False, False], [True, False]
        tracks = Tracks(*(np.array(values) for values in arrays), 0, 0)
        rgb = np.zeros((8, 8, 3), np.uint8)
        frame = Frame(Received(Image(), Continuity(0, ""), 0.0), rgb)
        tracked = TrackedFrame(frame, FrameResult(tracks, Header()), (), (8, 8), 0)
        overlay.part._draw({"image": tracked})
    ((_, ids, places, _),) = seen
    assert ids.tolist() == [3, 4]
    np.testing.assert_array_equal(places, [(5.0, 7.0), (np.nan, np.nan)])
