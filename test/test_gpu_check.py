"""tools/gpu_check.sh as far as it goes without a GPU, so that it works when there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taptrv2_core.ops import active_backend

ROOT = Path(__file__).parent.parent
CHECKS = ["ops against plain PyTorch", "golden cases", "whole steps", "op times", "speed, published", "memory"]
ROS = all(importlib.util.find_spec(name) for name in ("rclpy", "taptrv2_ros", "taptrv2_ros.msg"))


@pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")
def test_every_check_runs_on_the_cpu(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = [str(ROOT / "tools" / "gpu_check.sh"), "--cpu", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {step["name"]: step["outcome"] for step in result["steps"]} == dict.fromkeys(
        [*CHECKS, *(["node"] if ROS else [])], "ok"
    )
    summary = done.stdout.split("== summary")[1]
    for text in ("relative error", "golden cases in float32", "pixels at most", "memory peak", "ms a frame"):
        assert text in summary, text
    assert summary.strip().startswith("device CPU")
    assert "| golden cases | ok |" in (tmp_path / "gpu_check.md").read_text()


def test_some_checks_alone(tmp_path: Path) -> None:
    """What had no time left in a first call can be had in a second."""
    command = [sys.executable, str(ROOT / "tools" / "gpu_check.py"), "--cpu", "--out", str(tmp_path), "--only"]
    done = subprocess.run([*command, "nothing"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no check has one of ['nothing'] in its name" in done.stderr
    done = subprocess.run([*command, "op times"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [step["name"] for step in json.loads((tmp_path / "gpu_check.json").read_text())["steps"]] == ["op times"]


def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [str(ROOT / "tools" / "gpu_check.sh")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "gpu_check: torch sees no GPU" in done.stderr
