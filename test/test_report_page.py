"""Reports of recordings in a real browser: nothing to complain of, nothing from elsewhere, at home on a phone too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytest.importorskip("rosbags")
from browser import chromium
from recorded import STEP, sliding_bag
from tiny import tiny_model

from taptrv2_core import save_checkpoint
from taptrv2_core.cli import main

FRAMES = 12
POINTS = np.array([(30.0, 20.0), (50.5, 40.0)])
LOOK = """
const boxes = [...document.querySelectorAll('figure svg, figure img')].map(f => f.getBoundingClientRect());
const inside = [...document.querySelectorAll('figure svg text')].every(text => {
  const box = text.getBoundingClientRect(), plot = text.closest('svg').getBoundingClientRect();
  return box.left > plot.left - 1 && box.right < plot.right + 1;
});
return {
  smallest: Math.min(...boxes.map(box => Math.min(box.width, box.height))),
  plots: document.querySelectorAll('figure svg').length,
  inside, width: document.documentElement.scrollWidth,
  fetched: performance.getEntriesByType('resource').map(r => r.name).filter(name => !name.startsWith('data:')),
  colours: [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor],
};
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings evaluated together: reports of both above each other."""
    folder = tmp_path_factory.mktemp("reports")
    bags = [sliding_bag(folder / name, FRAMES) for name in ("first", "second")]
    save_checkpoint(tiny_model(), folder / "tiny.pt")
    points = POINTS[:, None] + np.arange(FRAMES)[:, None] * STEP
    np.savez(folder / "truth.npz", points=points, visible=np.ones(points.shape[:2], bool))
    words = ["--model", folder / "tiny.pt", "--ground-truth", folder / "truth.npz", "--stretch", 6, "--device", "cpu"]
    assert main(["evaluate-bags", *map(str, bags), *map(str, words), "--workers", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def look(driver: Any, page: Path, width: int, scheme: str) -> dict[str, Any]:
    """What a window of that width and a system of that colour scheme show."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(page.as_uri())
    assert not [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    return dict(driver.execute_script(LOOK))


@pytest.mark.parametrize("width", [390, 1280])
def test_report_in_a_browser(driver: Any, results: Path, width: int) -> None:
    (page,) = results.glob("first*/**/report.html")
    light, dark = (look(driver, page, width, scheme) for scheme in ("light", "dark"))
    assert light["fetched"] == []
    assert light["plots"] >= 4 and light["smallest"] > 100
    assert light["inside"]  # no plot's words are cut off
    assert light["width"] <= width
    assert light["colours"] != dark["colours"]


def test_summary_leads_to_the_reports(driver: Any, results: Path) -> None:
    assert look(driver, results / "summary.html", 390, "light")["width"] <= 390
    driver.find_element("link text", "first").click()
    assert driver.find_element("tag name", "h1").text == "first"
