"""What teach writes of an image and its tracks, and what it and add_reference say of files, without a node."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from ros_harness import Robot, node_in_this_process

from taptrv2_ros import add_reference, teach
from taptrv2_ros.client import ClientError, tracker_name
from taptrv2_ros.msg import PointTracks

IMAGE = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
TRACKS = PointTracks(
    ids=[3, 4, 5, 6, 7],
    x=[20.5, 30.0, 40.0, 60.0, 79.9],
    y=[10.25, 20.0, 30.0, 40.0, 50.0],
    visible=[1, 1, 0, 1, 1],
    group=[1, 1, 1, 2, 0],
    group_names=["", "mug", "auto"],
)


@pytest.mark.parametrize(
    ("asked", "ids", "group", "hidden"),
    [
        ({"group": "mug"}, [3, 4], "mug", 1),
        ({"group": "auto"}, [6], "", 0),
        ({"ids": [4, 7]}, [4], "", 1),  # 7 lies outside the image
        ({}, [3, 4], "mug", 2),
    ],
)
def test_points_that_are_visible(asked: Any, ids: list[int], group: str, hidden: int) -> None:
    taught = teach.choose(IMAGE, TRACKS, asked.get("group", ""), asked.get("ids", []), None)
    rows = [list(TRACKS.ids).index(i) for i in ids]
    np.testing.assert_allclose(taught.xy, np.stack((TRACKS.x, TRACKS.y), axis=-1)[rows])
    assert (taught.group, taught.hidden) == (group or taught.group, hidden)
    assert taught.picture is IMAGE or np.array_equal(taught.picture, IMAGE)


@pytest.mark.parametrize(("margin", "box"), [(5, (15, 5, 36, 26)), (0, (20, 10, 31, 21)), (100, (0, 0, 80, 60))])
def test_a_part_cut_out_has_a_margin(margin: int, box: tuple[int, int, int, int]) -> None:
    taught = teach.choose(IMAGE, TRACKS, "mug", [], margin)
    assert np.array_equal(taught.picture, IMAGE[box[1] : box[3], box[0] : box[2]])
    np.testing.assert_allclose(taught.xy, np.array([(20.5, 10.25), (30.0, 20.0)]) - box[:2])


@pytest.mark.parametrize(
    ("group", "ids", "tracks", "reason"),
    [
        ("plate", [], TRACKS, "no tracked point is in a group 'plate'; groups are: 'auto', 'mug'"),
        ("", [3, 9, 8], TRACKS, "no points with ids 8, 9 are tracked"),
        ("", [5], TRACKS, "none of the 1 points is visible in the newest image"),
        ("", [], PointTracks(group_names=[""]), "no points are tracked: add some first"),
    ],
)
def test_points_that_cannot_be_taught(group: str, ids: list[int], tracks: PointTracks, reason: str) -> None:
    with pytest.raises(ClientError, match=reason):
        teach.choose(IMAGE, tracks, group, ids, None)


def test_files_are_looked_at_before_the_node_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.png").touch()
    (tmp_path / "wrong.yaml").write_text("points: []\n")
    for program, file, status, expected in [
        (teach.main, "there.yaml", 1, f"teach: {tmp_path / 'there.png'} is there already; --force replaces it"),
        (teach.main, "new.png", 1, f"teach: {tmp_path / 'new.png'}: a reference is a .yaml file"),
        (teach.main, "none/new.yaml", 1, f"teach: {tmp_path / 'none'} is no folder"),
        (add_reference.main, "wrong.yaml", 2, f"add_reference: {tmp_path / 'wrong.yaml'}: no 'image'"),
    ]:
        assert program([str(tmp_path / file)]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(expected)
    with pytest.raises(SystemExit) as ended:
        teach.main([str(tmp_path / "new.yaml"), "--margin", "-1"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("parameters", "camera", "topic"),
    [
        ({"image_topic": "rgb"}, "", "/robot/rgb"),
        ({"cameras": ["front", "rear"], "image_transport": "compressed"}, "rear", "/robot/rear/image_raw/compressed"),
        ({"cameras": ["front", "rear"]}, "", "/robot/taptr has the cameras front, rear: say which with --camera"),
        ({}, "front", "/robot/taptr has no named cameras"),
    ],
)
def test_the_topic_of_the_images_is_the_nodes(weights: Path, parameters: Any, camera: str, topic: str) -> None:
    with node_in_this_process(weights, "__ns:=/robot", **parameters), closing(Robot("/robot/taptr")) as robot:
        if topic.startswith("/robot/taptr "):
            with pytest.raises(ClientError, match=topic):
                teach._topic(robot.node, "/robot/taptr", camera)
        else:
            assert teach._topic(robot.node, "/robot/taptr", camera) == topic


def test_what_topics_begin_with() -> None:
    assert tracker_name("/taptr", "") == tracker_name("taptr/", "") == "/taptr"
    assert tracker_name("/robot/taptr", "front") == "/robot/taptr/front"
