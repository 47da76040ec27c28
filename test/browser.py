"""A real browser without a window, for pages of this project; skips where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A selenium driver; ``profile`` is a new, empty folder."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver: sudo apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ["SE_AVOID_STATS"] = "true"
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        session.set_page_load_timeout(60)
        yield session
    finally:
        session.quit()


class Page:
    """The click page, as somebody who uses it sees it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.get(url)

    def points(self) -> list[dict[str, str]]:
        """The list of points: id, state, and x, y if they have a place."""
        script = (
            "return [...document.querySelectorAll('#points li')].map("
            "li => ({...li.dataset, state: li.querySelector('.state').textContent}))"
        )
        return list(self.driver.execute_script(script))

    def text(self, name: str) -> str:
        """Visible text of an element."""
        return str(self.driver.find_element("id", name).text)

    def press(self, name: str) -> None:
        self.driver.find_element("id", name).click()

    def click_picture(self, x: float, y: float) -> None:
        """A real click at pixels x, y of the image."""
        from selenium.webdriver import ActionChains

        canvas = self.driver.find_element("id", "picture")
        size = self.driver.execute_script("const c = arguments[0]; return [c.width, c.height]", canvas)
        box = canvas.rect
        offset = [((p + 0.5) / n - 0.5) * box[side] for p, n, side in ((x, size[0], "width"), (y, size[1], "height"))]
        ActionChains(self.driver).move_to_element_with_offset(canvas, *map(round, offset)).click().perform()

    def seek(self, index: int) -> None:
        script = "const s = arguments[0]; s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
        self.driver.execute_script(script, self.driver.find_element("id", "seek"), index)

    def remove(self, point: str) -> None:
        from selenium.webdriver import ActionChains

        button = self.driver.find_element("css selector", f"[data-remove='{point}']")
        ActionChains(self.driver).click(button).perform()

    def pixel(self, x: float, y: float) -> list[int]:
        """RGB of the canvas, points drawn, at pixels of the image."""
        script = (
            "const picture = document.getElementById('picture').getContext('2d');"
            "return [...picture.getImageData(arguments[0], arguments[1], 1, 1).data]"
        )
        return list(self.driver.execute_script(script, round(x), round(y)))[:3]

    def complaints(self) -> list[str]:
        """What the browser's console has to say against the page."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
