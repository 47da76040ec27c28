"""A short version of ``make soak``: the node under load and faults, seconds instead of minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")

from taptrv2_ros.bench.memory import Round, growth, judge, summary
from taptrv2_ros.bench.soak import Soak


def test_the_node_survives_some_seconds_of_everything_and_its_memory_stays(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "node.log"
    result = Soak({"weights": str(weights)}, 24, 24, log).run(5.0, rounds=4)
    assert result.problem == ""
    assert result.tracked > 30
    # The images of one round are 40 MiB; a few seconds are too few to judge by less.
    assert growth([a_round.cleaned for a_round in result.rounds[1:]])[0] < 30.0, result.rounds
    said = log.read_text()
    assert "image data is cut short" in said
    assert "add_points refused" in said
    printed = capsys.readouterr().out
    assert printed.count(" s | ") == len(result.rounds)


def rounds(tracking: list[float], cleaned: list[float], peak: float = 50.0) -> list[Round]:
    return [Round(t, t + peak, c) for t, c in zip(tracking, cleaned, strict=True)]


def test_memory_that_grows_or_peaks_is_told_from_memory_that_settles() -> None:
    noise = [0.0, 9.0, -7.0, 4.0, -9.0, 2.0, 8.0, -3.0, 5.0]
    filling = [min(600.0, 500 + 40 * i) + n for i, n in enumerate(noise)]
    flat = [400.0 + n / 3 for n in noise]
    assert judge(rounds(filling, flat)) == ""
    assert "memory after clean-up grew by" in judge(rounds(filling, [value + 10 * i for i, value in enumerate(flat)]))
    assert "memory while tracking grew by" in judge(rounds([v + 10 * i for i, v in enumerate(filling)], flat))
    assert "memory peaked at" in judge(rounds(filling, flat, peak=300.0))
    assert "too few" in judge(rounds(filling[:4], flat[:4]))
    assert growth([1.0, 3.0, 5.0]) == pytest.approx((4.0, 0.0))
    assert "while tracking: 603 to 608 MiB, growth +5.0 MiB" in summary(rounds([600.0 + i for i in range(9)], flat))
