"""Points taught once and found every time, over real DDS: service, parameter, and the commands in their processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from camera_process import camera_image, camera_message
from ros_harness import IMAGES, Setup, wait_until
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core.reference_files import read_reference, write_reference
from taptrv2_ros.click_page import LiveStage
from taptrv2_ros.client import client_node
from taptrv2_ros.conversions import rgb_message
from taptrv2_ros.demo.errors import DemoError
from taptrv2_ros.demo.node_process import NodeProcess
from taptrv2_ros.messages import nanoseconds

SIZE = (120, 160)
NOWHERE = 2**64 - 1


def corners() -> list[tuple[float, float]]:
    """Of the camera's image 0, x, y well inside."""
    grey = cv2.cvtColor(camera_image(0, *SIZE), cv2.COLOR_RGB2GRAY)
    mask = np.zeros_like(grey)
    mask[30:90, 53:106] = 255
    return [(float(x), float(y)) for ((x, y),) in cv2.goodFeaturesToTrack(grey, 16, 0.05, 8, mask=mask)]


XY = corners()


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference of the camera's image 0, cut out."""
    path = tmp_path_factory.mktemp("taught") / "mug.yaml"
    write_reference(path, camera_image(0, *SIZE)[10:110, 30:130], np.array(XY) - (30, 10), "mug")
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, taught: Path) -> Iterator[Setup]:
    """With the shipped weights, which find what they look for, and a file to begin with."""
    folder = tmp_path_factory.mktemp("references")
    with Setup(folder, Path("small"), references=[str(taught)], threads=1, max_points=40) as running:
        yield running


@pytest.fixture
def setup(running: Setup) -> Setup:
    running.anew()
    return running


def found(message: Any, ids: Any, index: int) -> float:
    """Share of the points of XY that are called visible, within 3 pixels of where they are in that image."""
    rows = [list(message.ids).index(i) for i in ids]
    off = np.array(XY) + (2 * index, index) - np.stack((message.x, message.y), axis=-1)[rows]
    return float(((np.hypot(*off.T) < 3) & np.array(message.visible, bool)[rows]).mean())


def names(message: Any) -> list[str]:
    return [message.group_names[i] for i in message.group]


def test_points_of_a_file_are_there_from_the_first_image_and_after_each_reset(setup: Setup) -> None:
    robot = setup.robot
    ids = list(robot.list().ids)
    assert len(ids) == len(XY) and set(robot.list().query_frame_index) == {NOWHERE}
    first = setup.track(3, 20, size=SIZE)[-1]
    assert names(first) == ["mug"] * len(XY)
    assert found(first, ids, 22) > 0.6
    (other,) = robot.add([(10.0, 10.0)], group="plate").ids
    assert set(robot.list().query_frame_index) == {NOWHERE, 2}

    again = setup.track(3, 5, size=SIZE)[-1]  # stamps go backwards
    assert (again.reset_count, list(again.ids), names(again)) == (1, ids, ["mug"] * len(XY))
    assert other not in robot.list().ids
    assert found(again, ids, 7) > 0.6
    told = f"1 points are forgotten (add them again), {len(ids)} of references are looked for"
    wait_until(lambda: told in setup.said(), "the warning")

    smaller = setup.track(2, 8, size=(80, 96))[-1]  # the cut-out has 100 x 100 pixels
    assert (smaller.reset_count, len(smaller.ids)) == (2, 0)
    wait_until(
        lambda: setup.said().count(f"{len(ids)} points are given up: the reference of the points") == 1, "the reason"
    )
    setup.anew()
    assert len(setup.robot.list().ids) == len(XY)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_picture_by_the_service(setup: Setup, compressed: bool) -> None:
    robot = setup.robot
    robot.clear()
    picture = camera_image(0, *SIZE)
    png = array("B", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    sent = {"compressed": CompressedImage(format="png", data=png)} if compressed else {"image": rgb_message(picture)}
    early = robot.add_reference(XY, **sent)
    assert not early.success and "no image has been tracked yet on '/test/image_raw'" in early.message
    setup.track(1, 20, size=SIZE)
    answer = robot.add_reference(XY, group="plate", **sent)
    assert answer.success, answer.message
    listed = robot.list()
    assert (list(listed.ids), names(listed)) == (list(answer.ids), ["plate"] * len(XY))
    assert set(listed.query_frame_index) == {NOWHERE} and not any(listed.visible)
    assert found(setup.track(3, 21, size=SIZE)[-1], answer.ids, 23) > 0.6
    back = setup.track(2, 10, size=SIZE)[-1]
    assert (back.reset_count, list(back.ids), names(back)) == (1, list(answer.ids), ["plate"] * len(XY))
    assert robot.remove([], group="plate").removed == len(XY)
    assert len(setup.track(2, 0, size=SIZE)[-1].ids) == 0


def test_pictures_that_are_refused(setup: Setup) -> None:
    robot = setup.robot
    setup.track(1, 0, size=SIZE)
    raw, strange = rgb_message(camera_image(0, *SIZE)), rgb_message(camera_image(0, *SIZE))
    strange.encoding = "hologram"
    cut = CompressedImage(format="png", data=array("B", b"PNG"))
    for xy, fields, reason in [
        (XY, {}, "0 pictures came: send one, either image or compressed"),
        (XY, {"image": raw, "compressed": cut}, "2 pictures came"),
        (XY, {"compressed": cut}, "cannot be decoded"),
        (XY, {"image": strange}, "encoding 'hologram' is not supported"),
        (XY, {"image": rgb_message(camera_image(0, 128, 160))}, "larger than the stream's images of 160 x 120"),
        ([(330.0, 5.0)], {"image": raw}, "outside the image of 160 x 120"),
        (XY * 10, {"image": raw}, "at most 40"),
        (XY, {"image": raw, "group": "auto"}, "the node's own"),
    ]:
        answer = robot.add_reference(xy, **fields)
        assert not answer.success and reason in answer.message and "\n" not in answer.message, answer.message
    assert len(robot.list().ids) == len(XY)
    assert "Traceback" not in setup.said()


def test_those_found_nowhere_have_no_place_on_the_click_page(setup: Setup) -> None:
    robot, elsewhere = setup.robot, np.random.default_rng(1).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    with client_node("test_page", []) as node:
        stage = LiveStage(node, IMAGES, "/taptr")
        wait_until(lambda: robot.node.count_subscribers(IMAGES) == 2, "the page's subscription")
        setup.track(1, 0, size=SIZE)
        nowhere = set(robot.add_reference(XY, image=rgb_message(elsewhere)).ids)
        seen: set[int] = set()
        for index in range(1, 6):
            tracks = setup.track(1, index, size=SIZE)[0]
            seen |= {i for i, visible in zip(tracks.ids, tracks.visible, strict=True) if visible}

            def scene(name: str = str(nanoseconds(tracks.header.stamp))) -> Any:
                shown = stage.showing.newer(0, 0)[1]
                return shown if shown and shown.image == name else None

            wait_until(scene, "the page's image")
            for point in scene().points:
                assert (point.x is None, point.state == "not found yet") == ((point.id not in seen),) * 2, point
        assert nowhere - seen and seen - nowhere


def test_velocities_begin_when_they_have_been_found(setup: Setup) -> None:
    """In the refined tracks too, which may find them in other images than the live ones did."""
    robot, noise = setup.robot, np.random.default_rng(2)
    publisher = robot.node.create_publisher(Image, IMAGES, 10)
    wait_until(lambda: publisher.get_subscription_count() > 0, "the node's subscription")
    for index in range(20):
        message = camera_message(index, SIZE, False, "")
        if index < 5:
            message.data = array("B", noise.integers(0, 256, len(message.data)).astype(np.uint8).tobytes())
        publisher.publish(message)
        robot.wait_for_tracks(f"camera_{index}")
    wait_until(lambda: len(robot.refined) == 16, "the refined tracks")
    for messages in (robot.tracks, robot.refined):
        found, visible, vx = (np.array([getattr(m, name) for m in messages]) for name in ("found", "visible", "vx"))
        seen = np.maximum.accumulate(visible, axis=0)
        assert (found >= seen).all() and (messages is robot.tracks or (found == seen).all())
        late = (found[4] == 0) & (found[-1] == 1)
        assert late.sum() > len(XY) / 2
        assert not vx[0].any() and not vx[1:][found[:-1] == 0].any()
        assert np.abs(vx[-1, late]).min() > 0
    robot.node.destroy_publisher(publisher)


def test_they_outlive_a_pause_and_those_of_files_a_clean_up(setup: Setup) -> None:
    robot = setup.robot
    setup.track(1, 0, size=SIZE)
    own = list(robot.add_reference(XY[:1], image=rgb_message(camera_image(0, *SIZE))).ids)
    of_file = [i for i in robot.list().ids if i not in own]
    assert robot.transition("deactivate")
    assert list(robot.list().ids) == of_file + own
    setup.camera.publish(0, 0)
    assert robot.transition("activate")
    after = setup.track(1, 50, size=SIZE)[0]  # a gap: tracking started anew
    assert (list(after.ids), any(after.vx)) == (of_file + own, False)
    setup.anew()
    assert len(setup.robot.list().ids) == len(of_file) == len(XY)


def command(*words: object) -> subprocess.Popen[str]:
    """teach or add_reference, as a process."""
    line = [sys.executable, "-m", f"taptrv2_ros.{words[0]}", *map(str, words[1:])]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(setup: Setup, start: int, *commands: subprocess.Popen[str]) -> list[tuple[int, str, str]]:
    """Exit status of each, and what it said; images come until then, from that index on."""
    index = count(start)
    while any(each.poll() is None for each in commands):
        setup.camera.publish(1, next(index), size=SIZE)
        time.sleep(0.1)
    return [(each.returncode, *each.communicate()) for each in commands]


def test_taught_once_and_sent_another_day(setup: Setup, tmp_path: Path) -> None:
    robot, file = setup.robot, tmp_path / "cup.yaml"
    setup.track(2, 0, size=SIZE)
    robot.clear()
    robot.add([(x + 2, y + 1) for x, y in XY], group="cup")
    robot.add([(20.0, 20.0)])
    setup.track(2, 2, size=SIZE)
    teach = command("teach", file, "--group", "cup", "--margin", 20)
    wait_until(lambda: robot.node.count_subscribers("/test/image_raw") == 2, "its subscription")
    ((status, said, problems),) = ended(setup, 4, teach)
    assert (status, problems) == (0, "")
    reference = read_reference(file)
    assert f"{file}: {len(reference.xy)} points of the group 'cup', a picture of" in said
    assert reference.group == "cup" and reference.image.shape[0] < SIZE[0]
    assert len(reference.xy) > len(XY) / 2

    setup.anew()
    setup.track(1, 10, size=SIZE)
    setup.robot.clear()
    sent = command("add_reference", file)
    said, problems = sent.communicate(timeout=60)
    assert (sent.returncode, problems) == (0, "")
    listed = setup.robot.list()
    assert f"/taptr looks for {len(listed.ids)} points of the group 'cup'" in said
    assert "ids: " + " ".join(map(str, listed.ids)) in said
    assert names(listed) == ["cup"] * len(reference.xy)
    tracks = setup.track(3, 11, size=SIZE)[-1]
    assert sum(tracks.visible) >= len(reference.xy) / 2


def test_what_the_commands_cannot_do(setup: Setup, tmp_path: Path, taught: Path) -> None:
    """Side by side, as they wait for 10 s; one is interrupted meanwhile."""
    setup.track(1, 0, size=SIZE)
    new = tmp_path / "new.yaml"
    commands = [
        command("teach", new, "--node", "/nobody"),
        command("teach", new, "--topic", "/elsewhere"),
        command("teach", new, "--camera", "front"),
        command("add_reference", taught, "--node", "/nobody"),
        command("add_reference", taught, "--group", "auto"),
        command("teach", new, "--topic", "/elsewhere"),
    ]
    wait_until(lambda: setup.robot.node.count_subscribers("/elsewhere") == 2, "both commands")
    commands[5].send_signal(signal.SIGINT)
    ends = ended(setup, 1, *commands)
    assert [(status, out) for status, out, _ in ends] == [(1, "")] * 5 + [(130, "")]
    said = [error.splitlines() for _, _, error in ends]
    assert said[0] == ["teach: /nobody/get_parameters is not there: is the node running and configured?"]
    assert said[1][0].startswith("teach: no image on /elsewhere in 10 s: is it published, does /taptr track it")
    assert said[2] == ["teach: /taptr has no named cameras"]
    assert said[3] == ["add_reference: /nobody/add_reference is not there: is the node running and configured?"]
    assert said[4] == ["add_reference: the group name 'auto' is the node's own, of points it adds by itself"]
    assert said[5] == ["teach: interrupted"]
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_is_no_configuration(tmp_path: Path, weights: Path) -> None:
    parameters = {"weights": str(weights), "device": "cpu", "references": [str(tmp_path / "mug.yaml")]}
    with NodeProcess(parameters, tmp_path / "node.log", lambda _: None) as node:
        with pytest.raises(DemoError) as caught:
            wait_until(lambda: node.check() is not None, "its words")
        assert f"cannot configure: parameter 'references': {tmp_path / 'mug.yaml'}: " in str(caught.value)
        assert "Traceback" not in (tmp_path / "node.log").read_text()
