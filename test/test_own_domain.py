"""Runs beside one another do not hear each other: each has a ROS domain of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from taptrv2_ros import own_domain

_CLAIM = "from taptrv2_ros.own_domain import claim_domain; print(claim_domain(), flush=True); input()"


@pytest.fixture(autouse=True)
def _no_claim_outlasts_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_domain, "_claims", [])


def test_no_two_claim_the_same_until_one_of_them_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    other = subprocess.Popen([sys.executable, "-c", _CLAIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout is not None
        claimed = int(other.stdout.readline())
        monkeypatch.setattr(own_domain, "DOMAINS", [claimed])
        with pytest.raises(RuntimeError, match="in use on this machine: set ROS_DOMAIN_ID"):
            own_domain.claim_domain()
        other.kill()
    assert own_domain.claim_domain() == claimed


def test_each_claim_is_another() -> None:
    claimed = [own_domain.claim_domain() for _ in range(3)]
    assert len({*claimed, int(os.environ["ROS_DOMAIN_ID"])}) == 4


def test_the_ports_of_every_domain_are_free_for_it() -> None:
    first, last = own_domain.DOMAINS[0], own_domain.DOMAINS[-1]
    assert first >= 1 and 7400 + 250 * (last + 1) <= 32768  # by the rule for DDS's ports


def test_a_domain_that_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    assert own_domain.use_own_domain() == 77
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert os.environ.get("ROS_DOMAIN_ID") is None
    assert own_domain.use_own_domain() == int(os.environ["ROS_DOMAIN_ID"]) != 0
