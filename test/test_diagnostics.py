"""What diagnostics say about the device's memory."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from taptrv2_ros.diagnostics import gpu_memory
from taptrv2_ros.health import ERROR, OK, camera_health
from taptrv2_ros.monitor import Monitor

NODE, FREE, TOTAL = "GPU memory of the node (MiB)", "GPU memory free (MiB)", "GPU memory total (MiB)"


def health(seconds_ago: list[float]) -> bytes:
    """Of a camera whose images came so long ago."""
    monitor, now = Monitor(), time.monotonic()
    monitor.arrivals.extend(now - ago for ago in seconds_ago)
    node = SimpleNamespace(get_publishers_info_by_topic=lambda _: [], get_topic_names_and_types=list)
    context = SimpleNamespace(
        active=True,
        node=node,
        parameters=SimpleNamespace(image_transport="raw", image_reliability="reliable"),
        session=SimpleNamespace(monitor=monitor, topic="/image", num_points=1, max_points=9),
    )
    camera: Any = SimpleNamespace(context=context, subscribed=True, subscribed_since=now - 999, parts=[])
    level, _ = camera_health(camera, monitor.period())
    return level


@pytest.mark.parametrize(
    ("seconds_ago", "level"),
    [
        ([], ERROR),
        ([0.3, 0.2, 0.1], OK),
        ([3.2, 3.1, 3.0], ERROR),
        ([60.2, 60.1, 60.0, 3.0], ERROR),  # a stall right after a long one
        ([60.2, 60.1, 60.0, 3.1, 3.0], ERROR),
        ([23.0, 13.0, 3.0], OK),  # an image in ten seconds
        ([53.0, 43.0, 33.0], ERROR),
    ],
)
def test_a_camera_has_stalled_by_its_own_pace(seconds_ago: list[float], level: bytes) -> None:
    assert health(seconds_ago) == level


def test_without_a_gpu_there_is_nothing_to_say() -> None:
    assert gpu_memory(torch.device("cpu")) == {}


def test_memory_is_told_in_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 300 * 2**20)
    assert gpu_memory(torch.device("cuda")) == {NODE: "300", FREE: "3072", TOTAL: "8192"}


def test_a_gpu_that_failed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    assert "illegal memory access" in gpu_memory(torch.device("cuda"))["GPU memory"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_a_real_gpu() -> None:
    kept = torch.zeros(64 * 2**20, dtype=torch.uint8, device="cuda")
    values = {key: int(value) for key, value in gpu_memory(kept.device).items()}
    assert 64 <= values[NODE] <= values[TOTAL] - values[FREE]
