"""Nodes with a process of their own for each test, over real DDS: floods, signals, and values it cannot start with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from camera_process import camera_image
from ros_harness import SIZE, Setup, wait_until

from taptrv2_core import Tracker, load_model
from taptrv2_ros.demo.errors import DemoError
from taptrv2_ros.demo.node_process import NodeProcess

START = [(20.0, 10.0), (40.5, 30.25), (33.0, 24.0)]


def test_a_flood_drops_images_and_not_requests(tmp_path: Path, weights: Path) -> None:
    with Setup(tmp_path, weights) as setup:
        size, flood = (480, 640), 90  # fewer than the queues of DDS hold, so that none is lost on the way
        setup.track(1, 0, size=size)
        setup.robot.add([(x, y) for x in np.linspace(0, 639, 16) for y in np.linspace(0, 479, 16)])
        setup.camera.order(flood, 1, size=size)
        slowest = 0.0
        for _ in range(8):
            started = time.monotonic()
            (point,) = setup.robot.add([(10.0, 10.0)]).ids
            assert setup.robot.remove([point]).success
            slowest = max(slowest, time.monotonic() - started)
        setup.camera.wait()
        last = setup.robot.wait_for_tracks(f"camera_{flood}")  # the newest wins
        assert slowest < 5.0
        assert last.dropped_images > 0
        assert last.frame_index + 1 + last.dropped_images == 1 + flood
        indices = [t.frame_index for t in setup.robot.tracks]
        assert indices == list(range(len(indices)))  # an answer for every image that was processed
        assert setup.node.stop() == 0
        assert "Traceback" not in setup.log.read_text()


def test_compressed_images(tmp_path: Path, weights: Path) -> None:
    tracker = Tracker(load_model(weights, device="cpu"))
    with Setup(tmp_path, weights, kind="compressed") as setup:
        setup.track(1, 0)
        tracker.step(camera_image(0, *SIZE))
        setup.robot.add(START)
        tracker.add_points(START)
        message = setup.track(3, 1)[-1]
        tracks = [tracker.step(camera_image(i, *SIZE)) for i in (1, 2, 3)][-1]
        np.testing.assert_allclose(message.x, tracks.x, atol=1e-2)
        setup.camera.publish(1, 4, fault="truncated")
        assert setup.track(1, 5)[0].frame_index == 4


def test_the_pages_client_follows_a_point(tmp_path: Path, weights: Path, project_root: Path) -> None:
    """The program in docs/node.md, as it stands there."""
    code = re.search(r"```python\n(import rclpy\n.*?)```", (project_root / "docs/node.md").read_text(), re.DOTALL)
    assert code
    (tmp_path / "follow.py").write_text(code[1])
    size = (480, 640)
    with Setup(tmp_path, weights) as setup, (tmp_path / "said.txt").open("w") as said:
        setup.track(1, 0, size=size)
        client = subprocess.Popen([sys.executable, tmp_path / "follow.py"], stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: len(setup.robot.list().ids) == 1, "its point")
            setup.track(2, 1, size=size)
            wait_until(lambda: "1000 s: point 0 at" in (tmp_path / "said.txt").read_text(), "its words")
        finally:
            client.kill()
            client.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly_under_load(tmp_path: Path, weights: Path, number: signal.Signals) -> None:
    with Setup(tmp_path, weights) as setup:
        setup.track(1, 0, size=(240, 320))
        setup.robot.add([(x, y) for x in np.linspace(0, 319, 8) for y in np.linspace(0, 239, 8)])
        setup.camera.order(40, 1, size=(240, 320), period=0.02)
        tracks = setup.robot.tracks
        wait_until(
            lambda: tracks[-1].header.frame_id != "camera_0", "the next tracks, of whichever image is not dropped"
        )
        os.kill(setup.node.pid, number)  # and then SIGINT, as launch repeats it
        assert setup.node.stop() == 0
        log = setup.log.read_text()
        assert "Traceback" not in log
        assert re.search(r"\d+ images received, \d+ tracked", log)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (
            {"cameras": ["front", "left side"]},
            "parameter 'cameras' is ['front', 'left side']: 'left side' is not made of",
        ),
        ({"max_points": 0}, "parameter 'max_points' must be an integer from 1 to 100000"),
        ({"image_transport": "theora"}, "parameter 'image_transport' is 'theora', which is none of raw, compressed"),
    ],
)
def test_what_it_cannot_start_with(tmp_path: Path, parameters: dict[str, object], reason: str) -> None:
    node = NodeProcess(parameters, tmp_path / "node.log", lambda _: None)
    with pytest.raises(DemoError) as caught:
        wait_until(lambda: node.check() is not None, "its end")
    assert "the node ended with status 1" in str(caught.value)
    assert reason in str(caught.value)
    assert "Traceback" not in (tmp_path / "node.log").read_text()
