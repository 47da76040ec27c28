"""Tracks and depth paired by stamp, whatever comes first, late or not at all."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from taptrv2_ros.pairing import Pairing

MS = 1_000_000


def feed(events: list[tuple[str, int]], tolerance: int = 20) -> list[tuple[int, int | None, int]]:
    """Events are ("i", ms) or ("d", ms); returns (item, depth, number of events it took)."""
    pairing: Pairing[int, int] = Pairing(tolerance * MS)
    settled = []
    for count, (kind, ms) in enumerate(events, start=1):
        add = pairing.add_item if kind == "i" else pairing.add_depth
        settled += [(item, depth, count) for item, depth in add(ms * MS, ms)]
    return settled


def test_depth_of_the_same_stamp_pairs_at_once_in_either_order() -> None:
    assert feed([("i", 0), ("d", 0), ("d", 33), ("i", 33)]) == [(0, 0, 2), (33, 33, 4)]


def test_depth_that_comes_later_and_is_missing_at_times() -> None:
    events = [("i", 0), ("d", 12), ("i", 33), ("i", 66), ("d", 78), ("i", 100), ("d", 112)]
    assert [s[:2] for s in feed(events)] == [(0, 12), (33, None), (66, 78), (100, 112)]


def test_depth_that_comes_before_its_image_is_not_waited_for_twice() -> None:
    events = [("d", -38), ("d", -5), ("i", 0), ("d", 28), ("i", 33)]
    assert feed(events) == [(0, -5, 3), (33, 28, 5)]


def test_the_nearest_of_two_within_the_tolerance() -> None:
    assert next(s[:2] for s in feed([("d", 0), ("i", 30), ("d", 40), ("i", 50)], 60)) == (30, 40)


def test_a_tracker_that_is_behind_finds_the_depth_that_was_held() -> None:
    depths = [("d", 33 * i) for i in range(12)]
    assert [s[:2] for s in feed([*depths, ("i", 66), ("i", 330)])] == [(66, 66), (330, 330)]


def test_without_depth_nothing_waits_for_ever() -> None:
    settled = feed([("i", 33 * i) for i in range(15)])
    assert [s[:2] for s in settled] == [(33 * i, None) for i in range(5)]


def test_a_recording_that_starts_anew() -> None:
    events = [("d", 1000), ("i", 1000), ("d", 0), ("i", 0), ("i", 33), ("d", 33)]
    assert [s[:2] for s in feed(events)] == [(1000, 1000), (0, 0), (33, 33)]


@pytest.mark.parametrize("lag", [-25, -12, 0, 12, 25])
@pytest.mark.parametrize("delay", [0, 1, 3])
def test_every_image_gets_its_own_depth_and_each_is_settled_once(lag: int, delay: int) -> None:
    """At 10 images a second, whatever the lag of the stamps and however many images the tracks are behind."""
    stamps = [100 * i for i in range(20)]
    times = sorted(
        itertools.chain(
            ((s + 100 * delay + 5, 1, "i", s) for s in stamps), ((s + max(lag, 0) + 1, 0, "d", s + lag) for s in stamps)
        )
    )
    settled = feed([(kind, stamp) for _, _, kind, stamp in times], tolerance=40)
    assert [s[:2] for s in settled] == [(s, s + lag) for s in stamps]


def synchronized(events: list[tuple[str, int]], tolerance: int) -> list[tuple[int, int]]:
    """What message_filters makes of the same events: pairs of (item, depth), in ms."""
    filters = pytest.importorskip("message_filters", reason="comes with a native ROS", exc_type=ImportError)
    messages = pytest.importorskip("std_msgs.msg", reason="comes with ROS", exc_type=ImportError)
    inputs = {"i": filters.SimpleFilter(), "d": filters.SimpleFilter()}
    pairs: list[tuple[int, int]] = []
    both = filters.ApproximateTimeSynchronizer(list(inputs.values()), 30, tolerance / 1000)
    both.registerCallback(lambda item, depth: pairs.append((item.number, depth.number)))
    for kind, ms in events:
        header = messages.Header()
        header.stamp.sec, header.stamp.nanosec = divmod(ms * MS, 1000 * MS)
        inputs[kind].signalMessage(SimpleNamespace(header=header, number=ms))
    return pairs


def test_the_same_pairs_as_message_filters_where_each_image_has_a_depth_of_its_own() -> None:
    jitter = [0, 7, -6, 3, -8, 8, -2, 5, 1, -7]
    events = [event for i in range(40) for event in (("i", 1000 + 33 * i), ("d", 1000 + 33 * i + jitter[i % 10]))]
    expected = synchronized(events, 12)
    assert len(expected) == 40
    assert sorted(s[:2] for s in feed(events, 12)) == sorted(expected)


def test_message_filters_leaves_images_without_depth_where_depth_is_slower() -> None:
    """Why it is not used: it gives a depth image to one image only, to the first within the tolerance."""
    events = [event for i in range(40) for event in ([("i", 1000 + 33 * i)] + [("d", 1000 + 33 * i)] * (i % 2 == 0))]
    assert len(synchronized(events, 40)) <= 20
    assert [depth for _, depth, _ in feed(events, 40)].count(None) == 0
