"""config/taptr.rviz against what RViz 2's sources read: names that it does not know it passes over in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

yaml = pytest.importorskip("yaml")

GRID = {"Reference Frame", "Plane", "Plane Cell Count", "Cell Size", "Line Style", "Color", "Alpha"}
IMAGE = {"Topic", "Normalize Range", "Min Value", "Max Value", "Median window"}
CLOUD = {"Topic", "Selectable", "Style", "Size (m)", "Size (Pixels)", "Alpha", "Decay Time", "Position Transformer"}
COLOUR = {"Color Transformer", "Channel Name", "Use rainbow", "Invert Rainbow", "Autocompute Intensity Bounds"}
DISPLAYS = {"Grid": GRID, "Image": IMAGE, "PointCloud2": CLOUD | COLOUR, "MarkerArray": {"Topic", "Namespaces"}}
VALUES = {
    "Plane": {"XY", "XZ", "YZ"},
    "Style": {"Points", "Squares", "Flat Squares", "Spheres", "Boxes", "Tiles"},
    "Color Transformer": {"Intensity", "AxisColor", "FlatColor", "RGB8", "RGBF32"},
    "History Policy": {"Keep Last", "Keep All", "System Default"},
    "Reliability Policy": {"Reliable", "Best Effort", "System Default"},
    "Durability Policy": {"Volatile", "Transient Local", "System Default"},
}


@pytest.fixture
def config(project_root: Path) -> Any:
    return yaml.safe_load((project_root / "config/taptr.rviz").read_text(encoding="utf-8"))


@pytest.fixture
def displays(config: Any) -> dict[str, Any]:
    return {display["Name"]: display for display in config["Visualization Manager"]["Displays"]}


def check_values(properties: dict[str, Any]) -> None:
    for name in VALUES.keys() & properties.keys():
        assert properties[name] in VALUES[name], name


def test_every_property_of_a_display_is_one_of_rviz(displays: dict[str, Any]) -> None:
    for display in displays.values():
        package, kind = display["Class"].split("/")
        assert package == "rviz_default_plugins"
        assert set(display) - {"Class", "Name", "Enabled"} <= DISPLAYS[kind]
        check_values(display)
        topic = display.get("Topic", {})
        assert set(topic) <= {"Value", "Depth", "History Policy", "Reliability Policy", "Durability Policy"}
        check_values(topic)


def test_markers_and_cloud_do_not_cover_each_other(displays: dict[str, Any]) -> None:
    """Both are spheres at the same places, in colours of their own."""
    assert displays["Markers"]["Enabled"]
    assert not displays["Points"]["Enabled"]


def test_the_docks_are_shown(config: Any) -> None:
    """RViz 2 decides by a variable without a value where these are not there."""
    window = config["Window Geometry"]
    assert window["Hide Left Dock"] is window["Hide Right Dock"] is False


def test_the_view_is_from_behind_the_camera_and_upright(config: Any) -> None:
    """Orbit goes round the frame's z, which is also what it turns upwards as far as it can."""
    view = config["Visualization Manager"]["Views"]["Current"]
    pitch, yaw = view["Pitch"], view["Yaw"]
    assert abs(pitch) < np.pi / 2
    out = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    eye = np.array([view["Focal Point"][axis] for axis in "XYZ"]) + view["Distance"] * out
    up = np.array([0.0, 0.0, 1.0]) - out[2] * out
    assert eye[2] < -0.3
    assert -out[2] > 0.9  # it looks along z
    assert up[1] / np.linalg.norm(up) < -0.9  # y is down
