"""Parameters as declared, config/tracker.yaml and docs/node.md say the same; the launch file compiles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("yaml")
import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node

from taptrv2_ros.parameter_set import ParameterSet
from taptrv2_ros.parameters import Change, ParameterError, Parameters, default_of

CONFIG = "config/tracker.yaml"
WHEN = {
    Change.ALWAYS: "At any time",
    Change.INACTIVE: "While inactive",
    Change.UNCONFIGURED: "While unconfigured",
    Change.NEVER: "At start only",
}


def shown(item: Field[Any]) -> str:
    """A default as YAML has it."""
    default = default_of(item)
    return default if isinstance(default, str) and default else json.dumps(default)


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def node_with(context: Context, *arguments: str) -> Node:
    return rclpy.create_node("taptr", context=context, cli_args=["--ros-args", *arguments])


def test_the_shipped_config_file_holds_every_parameter_with_its_default(project_root: Path) -> None:
    content = yaml.safe_load((project_root / CONFIG).read_text())
    assert content == {"/**/taptr": {"ros__parameters": {f.name: default_of(f) for f in fields(Parameters)}}}


def test_the_config_file_comments_every_key(project_root: Path) -> None:
    comment: list[str] = []
    commented: dict[str, str] = {}
    for line in (project_root / CONFIG).read_text().splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.lstrip("# "))
        else:
            commented[text.split(":")[0]] = " ".join(comment)
            comment = []
    for item in fields(Parameters):
        text = commented[item.name]
        assert f"Default: {shown(item)}" in text
        assert WHEN[item.metadata["change"]] in text
        if item.metadata["limits"]:
            low, high = item.metadata["limits"]
            assert f"{low} to {high}" in text
        assert all(choice in text for choice in item.metadata["choices"])


def test_the_documentation_lists_every_parameter(project_root: Path) -> None:
    page = (project_root / "docs/node.md").read_text()
    for item in fields(Parameters):
        limits = item.metadata["limits"]
        span = f"{limits[0]} to {limits[1]}" if limits else ", ".join(item.metadata["choices"])
        rows = [line for line in page.splitlines() if line.startswith(f"| `{item.name}` |")]
        assert len(rows) == 1, f"docs/node.md has {len(rows)} rows for {item.name}"
        assert f"| `{shown(item)}` |" in rows[0]
        assert f"| {WHEN[item.metadata['change']].lower()} |" in rows[0]
        assert span in rows[0]


def test_declared_parameters_describe_themselves(context: Context) -> None:
    node = node_with(context)
    assert ParameterSet(node).shared == Parameters()
    for item in fields(Parameters):
        descriptor = node.describe_parameter(item.name)
        assert len(descriptor.description) > 20
        assert descriptor.read_only == (item.metadata["change"] is Change.NEVER)
        if item.metadata["limits"]:
            (limits,) = descriptor.integer_range or descriptor.floating_point_range
            assert (limits.from_value, limits.to_value) == item.metadata["limits"]


def test_named_cameras_have_topics_of_their_own(context: Context) -> None:
    node = node_with(context, "-p", "cameras:=[left, right]", "-p", "right.image_topic:=/stereo/right")
    parameters = ParameterSet(node)
    assert parameters.cameras == ("left", "right")
    assert parameters.of("left").image_topic == "left/image_raw"
    assert parameters.of("right").image_topic == "/stereo/right"
    assert parameters.of("right").max_points == 1024
    assert [parameters.of(camera).info_topic for camera in ("left", "right")] == [
        "left/camera_info",
        "/stereo/camera_info",
    ]
    assert "image" in node.describe_parameter("left.image_topic").description


def test_named_cameras_look_for_the_nodes_references_unless_they_have_their_own(context: Context) -> None:
    given = "-p", "cameras:=[left, right]", "-p", "references:=[mug.yaml]", "-p", "right.references:=[a.yaml, b.yaml]"
    parameters = ParameterSet(node_with(context, *given))
    assert parameters.of("left").references == ["mug.yaml"]
    assert parameters.of("right").references == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize("cameras", ["['']", "[]"])
def test_one_camera_needs_no_name(context: Context, cameras: str) -> None:
    assert ParameterSet(node_with(context, "-p", f"cameras:={cameras}")).cameras == ("",)


def test_the_readme_lists_every_parameter(project_root: Path) -> None:
    page = (project_root / "README.md").read_text()
    for item in fields(Parameters):
        assert page.count(f"| `{item.name}` | `{shown(item)}` |") == 1, item.name


def test_values_from_the_config_file_reach_the_node_in_any_namespace(
    context: Context, project_root: Path, tmp_path: Path
) -> None:
    text = (project_root / CONFIG).read_text().replace("max_points: 1024", "max_points: 77")
    file = tmp_path / "tracker.yaml"
    file.write_text(text)
    for namespace in ("/", "/robot", "/fleet/robot"):
        node = node_with(context, "--params-file", str(file), "-r", f"__ns:={namespace}")
        assert ParameterSet(node).shared.max_points == 77
        node.destroy_node()


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("max_points:=0", "'max_points' must be an integer from 1 to 100000"),
        ("max_points:=many", "'max_points' must be an integer"),
        ("takeover_interval:=-3", "'takeover_interval' must be an integer from 1"),
        ("image_transport:=theora", "'image_transport' is 'theora', which is none of raw, compressed"),
        ("image_reliability:=maybe", "'image_reliability' is 'maybe'"),
        ("image_topic:=''", "'image_topic' is empty"),
        ("image_topic:=front camera", "'image_topic' is 'front camera', which is no topic name: .* other than alph"),
        ("depth_topic:=/camera//depth", "'depth_topic' is '/camera//depth', which is no topic name: .* repeated"),
        ("device:=0", "'device' must be a string"),
        ("max_gap:=-1.0", "'max_gap' must be a number with a decimal point from 0.0 to"),
        ("max_gap:=1", "'max_gap' must be a number with a decimal point"),
        ("lazy:=1", "'lazy' must be true or false"),
        ("cameras:=[left, left]", "'cameras' is .*a name comes twice"),
        ("cameras:=[left, weights]", "'cameras' is .*'weights' is the name of a parameter"),
        ("cameras:=[left, /right]", "'cameras' is .*'/right' is not made of letters"),
        ("cameras:=left", "'cameras' must be a list of strings"),
        ("references:=mug.yaml", "'references' must be a list of strings"),
    ],
)
def test_wrong_values_name_the_parameter(context: Context, assignment: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        ParameterSet(node_with(context, "-p", assignment))


@pytest.mark.parametrize(
    ("topic", "transport", "expected"),
    [
        ("camera/image_raw", "raw", "camera/image_raw"),
        ("camera/image_raw", "compressed", "camera/image_raw/compressed"),
        ("camera/image_raw/compressed", "compressed", "camera/image_raw/compressed"),
    ],
)
def test_compressed_images_are_on_the_topic_that_image_transport_uses(
    topic: str, transport: str, expected: str
) -> None:
    assert Parameters(image_topic=topic, image_transport=transport).wire_topic == expected


def test_the_launch_file_compiles(project_root: Path) -> None:
    file = project_root / "launch/tracker.launch.py"
    compile(file.read_text(), str(file), "exec")
