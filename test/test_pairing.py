"""Tracks and depth paired by stamp, whatever comes first, late or not at all."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from taptrv2_ros.depth_queue import HAVE_FILTERS
from taptrv2_ros.pairing import Pairing

MS = 1_000_000
Events = list[tuple[str, int]]
Settled = list[tuple[int, int | None, int]]

needs_filters = pytest.mark.skipif(not HAVE_FILTERS, reason="message_filters comes with a native ROS")


def fed(events: Events, tolerance: int, filtered: bool, unit: int = MS) -> Settled:
    """Events are ("i", stamp) or ("d", stamp); returns (item, depth, number of events it took)."""
    pairing: Pairing[int, int] = Pairing(tolerance * unit, filtered)
    settled = []
    for count, (kind, stamp) in enumerate(events, start=1):
        add = pairing.add_item if kind == "i" else pairing.add_depth
        settled += [(item, depth, count) for item, depth in add(stamp * unit, stamp)]
    return settled


@pytest.fixture(params=["own", pytest.param("message_filters", marks=needs_filters)])
def feed(request: pytest.FixtureRequest) -> Callable[..., Settled]:
    """`fed`, in milliseconds, by the project's own queue and by message_filters."""
    return lambda events, tolerance=20: fed(events, tolerance, request.param == "message_filters")


def test_depth_of_the_same_stamp_pairs_at_once_in_either_order(feed: Callable[..., Settled]) -> None:
    assert feed([("i", 0), ("d", 0), ("d", 33), ("i", 33)]) == [(0, 0, 2), (33, 33, 4)]


def test_depth_that_comes_later_and_is_missing_at_times(feed: Callable[..., Settled]) -> None:
    events = [("i", 0), ("d", 12), ("i", 33), ("i", 66), ("d", 78), ("i", 100), ("d", 112)]
    assert [s[:2] for s in feed(events)] == [(0, 12), (33, None), (66, 78), (100, 112)]


def test_depth_that_comes_before_its_image_is_not_waited_for_twice(feed: Callable[..., Settled]) -> None:
    events = [("d", -38), ("d", -5), ("i", 0), ("d", 28), ("i", 33)]
    assert feed(events) == [(0, -5, 3), (33, 28, 5)]


def test_the_nearest_of_two_within_the_tolerance(feed: Callable[..., Settled]) -> None:
    assert next(s[:2] for s in feed([("d", 0), ("i", 30), ("d", 40), ("i", 50)], 60)) == (30, 40)


def test_a_tracker_that_is_behind_finds_the_depth_that_was_held(feed: Callable[..., Settled]) -> None:
    depths = [("d", 33 * i) for i in range(12)]
    assert [s[:2] for s in feed([*depths, ("i", 66), ("i", 330)])] == [(66, 66), (330, 330)]


def test_without_depth_nothing_waits_for_ever(feed: Callable[..., Settled]) -> None:
    settled = feed([("i", 33 * i) for i in range(15)])
    assert [s[:2] for s in settled] == [(33 * i, None) for i in range(5)]


def test_a_recording_that_starts_anew(feed: Callable[..., Settled]) -> None:
    events = [("d", 1000), ("i", 1000), ("d", 0), ("i", 0), ("i", 33), ("d", 33)]
    assert [s[:2] for s in feed(events)] == [(1000, 1000), (0, 0), (33, 33)]


@pytest.mark.parametrize("filtered", [False, pytest.param(True, marks=needs_filters)])
def test_of_depths_without_stamps_the_newest_counts(filtered: bool) -> None:
    pairing: Pairing[str, str] = Pairing(20 * MS, filtered)
    for name in "abc":
        pairing.add_depth(0, f"depth {name}")
        assert pairing.add_item(0, f"image {name}") == [(f"image {name}", f"depth {name}")]


@pytest.mark.parametrize("lag", [-25, -12, 0, 12, 25])
@pytest.mark.parametrize("delay", [0, 1, 3])
def test_every_image_gets_its_own_depth_and_each_is_settled_once(
    feed: Callable[..., Settled], lag: int, delay: int
) -> None:
    """At 10 images a second, whatever the lag of the stamps and however many images the tracks are behind."""
    stamps = [100 * i for i in range(20)]
    times = sorted(
        itertools.chain(
            ((s + 100 * delay + 5, 1, "i", s) for s in stamps), ((s + max(lag, 0) + 1, 0, "d", s + lag) for s in stamps)
        )
    )
    settled = feed([(kind, stamp) for _, _, kind, stamp in times], tolerance=40)
    assert [s[:2] for s in settled] == [(s, s + lag) for s in stamps]


def test_an_image_that_was_given_up_keeps_no_depth_from_those_after_it(feed: Callable[..., Settled]) -> None:
    images = [("i", 33 * i) for i in range(11)]
    assert [s[:2] for s in feed([*images, ("d", 20), ("d", 60)], 40)] == [(0, None), (33, 20), (66, 60)]


def test_depth_at_half_the_rate_is_shared_by_two_images(feed: Callable[..., Settled]) -> None:
    events = [event for i in range(40) for event in ([("i", 1000 + 33 * i)] + [("d", 1000 + 33 * i)] * (i % 2 == 0))]
    assert [depth for _, depth, _ in feed(events, 40)].count(None) == 0


@pytest.mark.parametrize("filtered", [False, pytest.param(True, marks=needs_filters)])
@pytest.mark.parametrize("tolerance", [0, 20_000_000, 333_333_333, 10_000_000_000])
def test_the_tolerance_is_met_to_the_nanosecond(filtered: bool, tolerance: int) -> None:
    stamp = 1_700_000_000_123_456_789
    for off, near in ((tolerance, True), (-tolerance, True), (tolerance + 1, False), (-tolerance - 1, False)):
        events = [("d", stamp + off), ("i", stamp), ("d", stamp + 20_000_000_000)]
        [pair] = fed(events, tolerance, filtered, unit=1)
        assert pair[:2] == (stamp, stamp + off if near else None)


@needs_filters
@pytest.mark.parametrize("seed", range(5))
def test_message_filters_makes_no_difference(seed: int) -> None:
    """Both out of step, late, missing at times, and one third of the depth's recording starting anew."""
    rng = random.Random(seed)
    stamps = [(rng.choice("iid"), n * 20 * MS + rng.randrange(15 * MS)) for n in range(300)]
    arrivals = sorted(stamps, key=lambda event: event[1] + (event[0] == "i") * rng.randrange(200 * MS))
    arrivals += [("d", stamp // 3) for kind, stamp in stamps if kind == "d"]
    own = fed(arrivals, 25 * MS, filtered=False, unit=1)
    assert own == fed(arrivals, 25 * MS, filtered=True, unit=1)
    assert 20 < sum(depth is None for _, depth, _ in own) < len(own) - 20


def synchronized(events: list[tuple[str, int]], tolerance: int) -> list[tuple[int, int]]:
    """What message_filters makes of the same events: pairs of (item, depth), in ms."""
    import message_filters as filters
    from std_msgs.msg import Header

    inputs = {"i": filters.SimpleFilter(), "d": filters.SimpleFilter()}
    pairs: list[tuple[int, int]] = []
    both = filters.ApproximateTimeSynchronizer(list(inputs.values()), 30, tolerance / 1000)
    both.registerCallback(lambda item, depth: pairs.append((item.number, depth.number)))
    for kind, ms in events:
        header = Header()
        header.stamp.sec, header.stamp.nanosec = divmod(ms * MS, 1000 * MS)
        inputs[kind].signalMessage(SimpleNamespace(header=header, number=ms))
    return pairs


@needs_filters
def test_the_same_pairs_as_message_filters_by_itself_where_each_image_has_a_depth_of_its_own(
    feed: Callable[..., Settled],
) -> None:
    jitter = [0, 7, -6, 3, -8, 8, -2, 5, 1, -7]
    events = [event for i in range(40) for event in (("i", 1000 + 33 * i), ("d", 1000 + 33 * i + jitter[i % 10]))]
    expected = synchronized(events, 12)
    assert len(expected) == 40
    assert sorted(s[:2] for s in feed(events, 12)) == sorted(expected)
