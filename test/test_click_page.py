"""The click page in a real browser: clicks become points, tracks follow the images, the page steers the recording."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("av")
from browser import Page, chromium
from camera_process import camera_image
from waiting import wait_until

from taptrv2_core.drawing import VideoWriter

FRAMES, HEIGHT, WIDTH = 40, 120, 160


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "street.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(FRAMES):
            writer.write(camera_image(index, HEIGHT, WIDTH))  # moves 2 pixels right and 1 down an image
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


class Server:
    """A command that shows the page, as a process."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "taptrv2_core.cli", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.process.stdout.readline())
        assert found, self.process.communicate(timeout=30)
        self.url = found[0]

    def stop(self) -> str:
        """Ctrl-C; what it said besides."""
        self.process.send_signal(signal.SIGINT)
        said, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        return said + errors


@pytest.fixture(scope="module")
def server(video: Path) -> Iterator[Server]:
    server = Server("demo", "click", video, "--port", 0)
    yield server
    assert server.stop() == ""


def test_a_click_is_a_point_and_its_track_follows(driver: Any, server: Server) -> None:
    page = Page(driver, server.url)
    wait_until(lambda: page.text("index") == f"image 1 of {FRAMES}", "the first image")
    assert page.text("name") == "street"
    page.click_picture(60, 50)
    wait_until(lambda: len(page.points()) == 1, "a point")
    (point,) = page.points()
    assert abs(float(point["x"]) - 60) < 0.5
    assert abs(float(point["y"]) - 50) < 0.5
    assert point["state"] == "visible"
    assert page.text("count") == "1"

    page.press("play")
    wait_until(lambda: int(page.text("index").split()[1]) >= 13, "image 13")
    page.press("play")
    wait_until(lambda: page.text("play") == "Play", "the pause")
    page.click_picture(30, 90)
    wait_until(lambda: len(page.points()) == 2, "a second point")
    moved = page.points()[0]
    images = int(page.text("index").split()[1]) - 1
    assert abs(float(moved["x"]) - (60 + 2 * images)) < 6
    assert abs(float(moved["y"]) - (50 + images)) < 6
    assert moved["state"] == "visible"
    assert len({moved["point"], page.points()[1]["point"]}) == 2
    drawn, image = page.pixel(float(moved["x"]), float(moved["y"])), camera_image(images, HEIGHT, WIDTH)
    plain = image[round(float(moved["y"])), round(float(moved["x"]))]
    assert max(abs(int(a) - int(b)) for a, b in zip(drawn, plain, strict=True)) > 25  # the disc is on the canvas

    page.seek(0)
    wait_until(lambda: page.text("index").startswith("image 1 "), "the jump back")
    first, second = page.points()
    assert (first["x"], first["y"]) == (point["x"], point["y"])  # tracked anew from its own image on
    assert second["state"] == f"clicked in image {images}"
    assert "x" not in second

    page.remove(first["point"])
    wait_until(lambda: [p["point"] for p in page.points()] == [second["point"]], "one point less")
    page.press("clear")
    wait_until(lambda: page.points() == [], "no points")
    assert page.complaints() == []


def test_the_recording_ends_and_the_page_comes_back(driver: Any, server: Server) -> None:
    page = Page(driver, server.url)
    wait_until(lambda: page.text("index") != "", "the image")
    page.seek(FRAMES - 2)
    wait_until(lambda: page.text("index") == f"image {FRAMES - 1} of {FRAMES}", "the last image but one")
    page.press("play")
    wait_until(lambda: page.text("index") == f"image {FRAMES} of {FRAMES}", "the last image")
    wait_until(lambda: page.text("play") == "Play", "the end")
    driver.get("about:blank")  # gone, and back: what was shown last is there
    again = Page(driver, server.url)
    wait_until(lambda: again.text("index") == f"image {FRAMES} of {FRAMES}", "the page again")
    assert again.text("status") == "connected"


def test_other_sites_are_refused(server: Server) -> None:
    for headers in ({"Host": "example.org"}, {"Origin": "http://example.org"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(server.url, headers=headers), timeout=20)


def test_clicked_points_are_tracked_afterwards(driver: Any, video: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--weights", weights, "--out", out, "--no-overlay", "--images", 12)
    server = Server("track", video, "--click", "--port", 0, *options)
    page = Page(driver, server.url)
    wait_until(lambda: page.text("index").startswith("image 1 "), "the first image")
    page.click_picture(20, 30)
    wait_until(lambda: len(page.points()) == 1, "a point")
    page.seek(7)
    wait_until(lambda: page.text("index").startswith("image 8 "), "image 8")
    page.click_picture(100, 60)
    wait_until(lambda: len(page.points()) == 2, "another")
    page.press("done")
    wait_until(lambda: page.text("status").startswith("done"), "goodbye")
    _, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == 0, errors
    with (out / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = {int(row["id"]): row for row in reversed(rows)}
    picked = [(int(r["frame"]), round(float(r["x"])), round(float(r["y"]))) for _, r in sorted(first.items())]
    assert picked == [(0, 20, 30), (7, 100, 60)]


def test_a_port_in_use_is_said(server: Server, video: Path) -> None:
    port = server.url.rstrip("/").rsplit(":", 1)[1]
    command = [sys.executable, "-m", "taptrv2_core.cli", "demo", "click", str(video), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"taptr demo: port {port} of 127.0.0.1 is in use; choose another with --port (0: any)\n"
