"""Makes the pictures of the demos that the documents show: tools/run.sh python tools/demo_pictures.py [NAME ...].

Names: rainbow, sticker, click; all without any. The generated clips and the shipped weights are used; the page's
picture is a real browser's (chromium, chromium-driver, and selenium from requirements/dev.txt).
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

from taptrv2_core import load_model
from taptrv2_core.cli import main as taptr
from taptrv2_core.demos.click import VideoStage, serve
from taptrv2_core.demos.source import open_images

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PORT = 8642
CLICKS = ((70, 60), (150, 250), (215, 135), (240, 200), (330, 90), (400, 220), (255, 165), (120, 120))


def strip(demo: str, frames: tuple[int, ...]) -> None:
    """Four images of a demo's video, two by two."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "demo.mp4"
        assert taptr(["demo", demo, "--out", str(video)]) == 0
        capture = cv2.VideoCapture(str(video))
        pictures = []
        for frame in frames:
            capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
            pictures.append(cv2.resize(capture.read()[1], (480, 360), interpolation=cv2.INTER_AREA))
        capture.release()
    rows = [np.hstack(pictures[i : i + 2]) for i in (0, 2)]
    save(IMAGES / f"demo_{demo}.jpg", np.vstack(rows))


def save(path: Path, picture: Any) -> None:
    """JPEG of at most 300 kB."""
    for quality in (90, 84, 78, 70, 60):
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if path.stat().st_size <= 300_000:
            break
    print(f"{path}: {path.stat().st_size // 1000} kB")


def click() -> None:
    """The page in chromium, with some points clicked and followed for a while."""
    sys.path.insert(0, str(ROOT / "test"))
    from browser import Page, chromium

    model = load_model("small", dtype="auto")
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(VideoStage(lambda: open_images(None), model))
        threading.Thread(target=serve, args=(stage, PORT), daemon=True).start()
        driver = stack.enter_context(chromium(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        time.sleep(2)
        page = Page(driver, f"http://127.0.0.1:{PORT}/")
        wait(lambda: page.text("index") != "")
        for number, place in enumerate(CLICKS, 1):
            page.click_picture(*place)
            wait(lambda number=number: len(page.points()) == number)  # type: ignore[misc]
        page.press("play")
        wait(lambda: int(page.text("index").split()[1]) >= 20)
        page.press("play")
        time.sleep(1)
        picture = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    save(IMAGES / "demo_click.jpg", picture)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the page does not show what it should"
        time.sleep(0.05)


if __name__ == "__main__":
    makers: dict[str, Callable[[], None]] = {
        "rainbow": lambda: strip("rainbow", (4, 14, 24, 40)),
        "sticker": lambda: strip("sticker", (0, 12, 16, 24)),
        "click": click,
    }
    for name in sys.argv[1:] or makers:
        makers[name]()
