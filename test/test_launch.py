"""The launch file, run as `ros2 launch` runs it: arguments, namespaces, Ctrl-C, and arguments that are wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
pytest.importorskip("launch_ros.actions", reason="launch comes with an installed ROS 2; no package index has it")
import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import parameter_value_to_python
from ros_harness import Camera, Robot
from waiting import WAIT, wait_until

from taptrv2_ros.first_contact import FirstContact

ARGUMENTS: dict[str, Any] = {
    "autostart": False,
    "image_topic": "/cam/image",
    "image_transport": "compressed",
    "weights": "12.pt",
    "device": "cpu",
    "references": ["a.yaml", "b.yaml"],
    "target_points": 7,
    "depth_topic": "/cam/depth",
    "use_sim_time": True,
}


class Launched:
    """The launch file with arguments, in a process group of its own as in a terminal."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        script = Path(__file__).with_name("launch_process.py")
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, script, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "ROS_LOG_DIR": str(log.parent)},
            )

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def said(self) -> str:
        return self.log.read_text()

    def wait(self) -> int:
        """Its exit status."""
        return self._process.wait(WAIT)

    def ctrl_c(self) -> int:
        """Its exit status after the signal that a terminal sends to launch and node."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self.wait()


def parameters_of(node: str, names: list[str]) -> dict[str, Any]:
    """Asked of the running node."""
    context = Context()
    rclpy.init(context=context)
    asking = rclpy.create_node("asking", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(asking)
    client = asking.create_client(GetParameters, f"{node}/get_parameters")
    contact = FirstContact(client)

    def made() -> bool:
        executor.spin_once(timeout_sec=0.05)
        return contact.made()

    wait_until(made, f"parameters of {node}")
    future = client.call_async(GetParameters.Request(names=names))
    executor.spin_until_future_complete(future, WAIT)
    executor.shutdown()
    asking.destroy_node()
    rclpy.shutdown(context=context)
    return dict(zip(names, map(parameter_value_to_python, future.result().values), strict=True))


def test_every_argument_reaches_the_node(tmp_path: Path) -> None:
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in ARGUMENTS.items()}
    with Launched(
        tmp_path / "log", "namespace:=one", *(f"{name}:={value}" for name, value in text.items())
    ) as launched:
        assert parameters_of("/one/taptr", list(ARGUMENTS)) == ARGUMENTS
        assert launched.ctrl_c() == 0
        assert "autostart is false" in launched.said()


def test_two_robots_track_until_ctrl_c(tmp_path: Path, weights: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "/**/taptr:\n  ros__parameters:\n    image_topic: /from/the/file\n"
        "    image_reliability: reliable\n    max_points: 2\n"
    )
    both = [f"config:={config}", f"weights:={weights}", "device:=cpu", "image_topic:=image"]
    levels = {"left": "error", "right": "info"}
    with ExitStack() as stack:
        launched = {
            name: stack.enter_context(Launched(tmp_path / name, f"namespace:={name}", f"log_level:={level}", *both))
            for name, level in levels.items()
        }
        for name in levels:
            robot, camera = Robot(f"/{name}/taptr"), Camera(f"/{name}/image")
            stack.callback(robot.close)
            stack.callback(camera.close)
            robot.wait_for_node()
            camera.publish(1, 0)
            robot.wait_for_tracks("camera_0")
            assert robot.add([(20.0, 10.0), (33.0, 24.0)]).success
            assert not robot.add([(40.0, 30.0)]).success  # max_points of the file
            camera.publish(1, 1)
            assert list(robot.wait_for_tracks("camera_1").ids) == [0, 1]
        for name in levels:
            assert launched[name].ctrl_c() == 0
            said = launched[name].said()
            assert "process has finished cleanly" in said
            assert "Traceback" not in said
    assert "[right.taptr]: waiting for Image on '/right/image'" in launched["right"].said()
    assert "[INFO] [left.taptr]" not in launched["left"].said()
    assert ": waiting for Image" not in launched["left"].said()


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("target_points:=many", "invalid literal for int"),
        ("use_sim_time:=maybe", "Cannot convert value 'maybe'"),
        ("config:=/no/such.yaml", "no such file"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, argument: str, reason: str) -> None:
    with Launched(tmp_path / "log", argument) as launched:
        assert launched.wait() == 1
        assert f"{argument}: {reason}" in launched.said()
