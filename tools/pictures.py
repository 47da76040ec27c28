"""Makes pictures that the documents show: tools/run.sh python tools/pictures.py [NAME ...].

Names: demo, report, rainbow, sticker, click, references; all without any. The generated clips and the shipped weights
are used; pages are shown by a real browser (chromium, chromium-driver, and selenium from requirements/dev.txt).
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from taptrv2_core import Tracker, load_model
from taptrv2_core.cli import main as taptr
from taptrv2_core.demos.click import VideoStage, serve
from taptrv2_core.demos.source import open_images
from taptrv2_core.drawing import DrawStyle, PointDrawer
from taptrv2_core.evaluation.generated import synthetic_dataset
from taptrv2_core.seeding import spread_corners
from taptrv2_ros.demo.__main__ import main as live_demo

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))
import browser  # noqa: E402

IMAGES = ROOT / "docs" / "images"
PORT = 8642
CLICKS = ((70, 60), (150, 250), (215, 135), (240, 200), (330, 90), (400, 220), (255, 165), (120, 120))


# The report's parts side by side, as one picture has room for them.
SIDE_BY_SIDE = """
document.body.style.cssText = 'max-width: none; margin: 8px; columns: 4; column-gap: 24px; font-size: 10px; zoom: 0.9';
document.documentElement.style.overflow = 'hidden';
for (const part of document.querySelectorAll('.columns')) part.style.display = 'block';
for (const part of document.querySelectorAll('section, figure, h1 + table')) part.style.breakInside = 'avoid';
const pictures = document.querySelector('.columns:has(img)');
pictures.style.cssText = 'display: grid; grid-template-columns: 1fr 1fr; gap: 6px';
for (const part of pictures.children) part.style.margin = 0;
for (const plot of document.querySelectorAll('svg, img')) plot.style.cssText = 'width: 100%; height: auto';
for (const part of document.querySelectorAll('.wide')) part.remove();
const worst = [...document.querySelectorAll('h2')].find(h => h.textContent.startsWith('Points that did worst'));
worst.nextElementSibling.remove(); worst.remove();
"""


def demo() -> None:
    """What ``make demo`` draws."""
    with tempfile.TemporaryDirectory() as folder:
        assert live_demo(["--out", folder]) == 0
        four_images(next(Path(folder).glob("*/overlay.mp4")), (11, 25, 39, 57), (640, 480), "demo")


def report() -> None:
    """The report on the demo's clip, in chromium."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        assert live_demo(["--out", str(folder)]) == 0
        made = folder / "generated"
        truth = ["--ground-truth", str(made / "truth.npz"), "--out", str(folder / "judged")]
        assert taptr(["evaluate-bag", str(made / "clip"), *truth]) == 0
        driver = stack.enter_context(browser.chromium(folder / "profile"))
        driver.get((folder / "judged" / "report.html").as_uri())
        driver.set_window_size(1400, 1100)
        driver.execute_script(SIDE_BY_SIDE)
        driver.set_window_size(1400, 165 + driver.execute_script("return document.body.getBoundingClientRect().height"))
        save(IMAGES / "report.jpg", screenshot(driver))


def strip(name: str, frames: tuple[int, ...]) -> None:
    """A demo's video."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "demo.mp4"
        assert taptr(["demo", name, "--out", str(video)]) == 0
        four_images(video, frames, (480, 360), f"demo_{name}")


def four_images(video: Path, frames: tuple[int, ...], size: tuple[int, int], name: str) -> None:
    """Of a video, two by two, each (width, height) pixels."""
    capture = cv2.VideoCapture(str(video))
    pictures = []
    for frame in frames:
        capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
        pictures.append(cv2.resize(capture.read()[1], size, interpolation=cv2.INTER_AREA))
    capture.release()
    save(IMAGES / f"{name}.jpg", np.vstack([np.hstack(pictures[i : i + 2]) for i in (0, 2)]))


def save(path: Path, picture: Any) -> None:
    """JPEG of at most 300 kB."""
    for quality in (90, 84, 78, 70, 60):
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if path.stat().st_size <= 300_000:
            break
    print(f"{path}: {path.stat().st_size // 1000} kB")


def click() -> None:
    """The page in chromium, with some points clicked and followed for a while."""
    model = load_model("small", dtype="auto")
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(VideoStage(lambda: open_images(None), model))
        threading.Thread(target=serve, args=(stage, PORT), daemon=True).start()
        driver = stack.enter_context(browser.chromium(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        time.sleep(2)
        page = browser.Page(driver, f"http://127.0.0.1:{PORT}/")
        wait(lambda: page.text("index") != "")
        for number, place in enumerate(CLICKS, 1):
            page.click_picture(*place)
            wait(lambda number=number: len(page.points()) == number)  # type: ignore[misc]
        page.press("play")
        wait(lambda: int(page.text("index").split()[1]) >= 20)
        page.press("play")
        time.sleep(1)
        save(IMAGES / "demo_click.jpg", screenshot(driver))


def references() -> None:
    """A part cut out of a clip's first image, and its points in later images, in other light."""
    *_, sample = synthetic_dataset(5, 40, 360, seed=2).samples
    top, bottom, left, right = 60, 315, 20, 300
    picture = sample.video[0, top:bottom, left:right]
    xy = spread_corners(picture, 24)
    tracker = Tracker(load_model("small", dtype="auto"))
    ids = tracker.add_reference(picture, xy)
    style = DrawStyle(radius=10, tail=0, brightness=1)
    panel = np.full_like(sample.video[0], 255)
    panel[top:bottom, left:right] = PointDrawer(style).draw(picture, ids, xy, np.ones(len(ids), bool))
    panels = [panel]
    for number in range(6, 28):
        image = (sample.video[number] * (0.75, 0.65, 0.5)).astype(np.uint8)
        tracks = tracker.step(image)
        if number in (10, 19, 27):
            panels += [panel[:, :8], PointDrawer(style).draw(image, tracks.ids, tracks.found_xy, tracks.visible)]
    save(IMAGES / "references.jpg", np.hstack(panels)[..., ::-1])


def screenshot(driver: Any) -> Any:
    """What a browser shows, (H, W, 3) BGR."""
    return cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the page does not show what it should"
        time.sleep(0.05)


if __name__ == "__main__":
    makers: dict[str, Callable[[], None]] = {
        "demo": demo,
        "report": report,
        "rainbow": lambda: strip("rainbow", (4, 14, 24, 40)),
        "sticker": lambda: strip("sticker", (0, 12, 16, 24)),
        "click": click,
        "references": references,
    }
    for name in sys.argv[1:] or makers:
        makers[name]()
