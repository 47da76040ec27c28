"""A short version of ``make soak``: the node under load and faults, seconds instead of minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from tiny import tiny_model

from taptrv2_core import save_checkpoint
from taptrv2_ros.bench.soak import judge, soak


def test_the_node_survives_some_seconds_of_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, log = tmp_path / "tiny.pt", tmp_path / "node.log"
    save_checkpoint(tiny_model(), weights)
    result = soak(5.0, str(weights), 24, log, row_seconds=2.0)
    assert result.problem == ""
    assert result.tracked > 30
    said = log.read_text()
    assert "image data is cut short" in said
    assert "add_points refused" in said
    printed = capsys.readouterr().out
    assert printed.count(" s | ") >= 3  # a row every two seconds


def test_growing_memory_is_told_from_memory_that_settles() -> None:
    minutes = [100.0 + 2 * i for i in range(60)]
    assert judge([min(m, 150.0) for m in minutes]) == ""
    assert "memory grew by" in judge(minutes)
