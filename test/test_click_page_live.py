"""The click page for the live node: real node, camera and browser; a click in the page is a point of the node."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
pytest.importorskip("aiohttp")
from browser import Page, chromium
from ros_harness import Setup
from waiting import wait_until


def test_clicks_are_points_of_the_node(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    command = [sys.executable, "-m", "taptrv2_ros.click_page", "--topic", "/test/image_raw", "--port", "0"]
    with chromium(tmp_path / "profile") as driver, Setup(tmp_path, weights) as setup:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
            assert found
            page = Page(driver, found[0])
            index = iter(range(10_000))

            def shown(condition: object) -> bool:
                """Another image, until what is waited for is on the page; a click is of one of the newest eight."""
                time.sleep(0.1)
                setup.camera.publish(1, next(index), size=(120, 160))
                return bool(condition())  # type: ignore[operator]

            wait_until(lambda: shown(lambda: page.text("index") != ""), "an image")
            assert page.text("name") == "/test/image_raw"
            page.click_picture(60, 40)
            wait_until(lambda: shown(page.points), "the point")
            listed = setup.robot.list()
            (point,) = page.points()
            assert list(listed.ids) == [int(point["point"])]
            assert point["state"] in ("visible", "hidden")
            page.remove(point["point"])
            wait_until(lambda: len(setup.robot.list().ids) == 0, "the point's removal")
            page.click_picture(20, 20)
            page.click_picture(30, 90)
            wait_until(lambda: len(setup.robot.list().ids) == 2, "two points")
            page.press("clear")
            wait_until(lambda: len(setup.robot.list().ids) == 0, "no points")
            assert page.complaints() == []
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
