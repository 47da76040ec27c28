"""What diagnostics say about the device's memory."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from taptrv2_ros.diagnostics import gpu_memory

NODE, FREE, TOTAL = "GPU memory of the node (MiB)", "GPU memory free (MiB)", "GPU memory total (MiB)"


def test_without_a_gpu_there_is_nothing_to_say() -> None:
    assert gpu_memory(torch.device("cpu")) == {}


def test_memory_is_told_in_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 300 * 2**20)
    assert gpu_memory(torch.device("cuda")) == {NODE: "300", FREE: "3072", TOTAL: "8192"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_a_real_gpu() -> None:
    kept = torch.zeros(64 * 2**20, dtype=torch.uint8, device="cuda")
    values = {key: int(value) for key, value in gpu_memory(kept.device).items()}
    assert 64 <= values[NODE] <= values[TOTAL] - values[FREE]
