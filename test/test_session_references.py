"""References of a camera's session: kept when tracking starts anew, given up where they cannot be followed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from builtin_interfaces.msg import Time
from session_harness import Log, ScarceTaptr, track
from tiny import tiny_model

from taptrv2_core import ImageError, PointError
from taptrv2_core.stamps import Continuity
from taptrv2_ros.session import TrackingSession

AGAIN = Continuity(1, "stamps went back by 3 s")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_they_and_their_groups_outlive_a_cut_and_others_do_not() -> None:
    log = Log()
    session = TrackingSession(tiny_model(), 8, 1, "/test/image_raw", log)
    track(session, 0)
    session.points.add([10.0], [10.0], Time(), "plate")
    ids = session.points.add_reference(picture(20, 30), [3.0, 4.0], [5.0, 6.0], "mug")
    session.points.remove(ids[:1])
    tracked = track(session, 1, AGAIN)
    assert tracked is not None
    assert tracked.result.tracks.ids.tolist() == ids[1:]
    assert session.points.groups.members("mug") == ids[1:]
    with pytest.raises(PointError, match="no tracked point is in a group 'plate'; groups are: 'mug'"):
        session.points.groups.members("plate")
    (warning,) = log.warnings
    assert warning.endswith("starts anew, 1 points are forgotten (add them again), 1 of references are looked for")
    assert session.points.clear() == 1
    tracked = track(session, 2, Continuity(2, "again"))
    assert tracked is not None and len(tracked.result.tracks.ids) == 0


def test_one_too_large_for_images_of_another_size_is_given_up_in_one_line() -> None:
    log = Log()
    session = TrackingSession(tiny_model(), 8, 1, "/test/image_raw", log)
    track(session, 0)
    small = session.points.add_reference(picture(20, 30), [3.0], [5.0], "plate")
    large = session.points.add_reference(picture(40, 60), [3.0, 4.0], [5.0, 6.0], "mug")
    for index in range(1, 4):
        tracked = track(session, index, size=(32, 40))
        assert tracked is not None
        assert (tracked.result.tracks.ids.tolist(), tracked.reset_count) == (small, 1)
    (error,) = log.errors
    assert (
        f"2 points are given up: the reference of the points with ids {large[0]}, {large[1]} is 60 x 40 pixels" in error
    )
    assert "remove them" not in error and "\n" not in error
    assert session.counters.refused == 0
    with pytest.raises(PointError, match="groups are: 'plate'"):
        session.points.groups.members("mug")


def test_those_the_memory_has_no_room_for_are_given_up() -> None:
    """Added one after another they fit; looked for anew they may not, and would fail in every image from then on."""
    log, model = Log(), tiny_model()
    model.__class__ = ScarceTaptr
    session = TrackingSession(model, 100, 1, "/test/image_raw", log)
    track(session, 0)
    ids = session.points.add_reference(picture(20, 30), [3.0] * 6, [5.0] * 6)
    try:
        ScarceTaptr.room = 3
        tracked = [track(session, index, AGAIN) for index in range(1, 5)]
    finally:
        ScarceTaptr.room = 8
    assert tracked[-1] is not None
    assert tracked[-1].result.tracks.ids.tolist() == ids[:3]
    assert [error for error in log.errors if "out of memory with 6 points" in error]


def test_what_cannot_be_granted() -> None:
    session = TrackingSession(tiny_model(), 4, 1, "/test/image_raw", Log())
    with pytest.raises(PointError, match="no image has been tracked yet on '/test/image_raw'"):
        session.points.add_reference(picture(20, 30), [3.0], [5.0])
    (early,) = session.points.look_for(picture(20, 30), np.array([(3.0, 5.0)]), "mug")  # of a file: it waits
    tracked = track(session, 0)
    assert tracked is not None and tracked.result.tracks.ids.tolist() == [early]
    for image, xy, group, reason in [
        (picture(20, 30), [(30.0, 5.0)], "", "outside the image of 30 x 20 pixels"),
        (picture(49, 30), [(3.0, 5.0)], "", "is 30 x 49 pixels, larger than the stream's images of 64 x 48"),
        (picture(20, 30), [(3.0, 5.0)] * 4, "", "at most 4"),
        (picture(20, 30), [(3.0, 5.0)], "auto", "the node's own"),
        (picture(1, 30), [(3.0, 0.0)], "", "the least is 2 x 2"),
    ]:
        with pytest.raises((PointError, ImageError), match=reason):
            session.points.add_reference(image, [x for x, _ in xy], [y for _, y in xy], group)
    with pytest.raises(PointError, match="2 values of x but 1 of y"):
        session.points.add_reference(picture(20, 30), [3.0, 4.0], [5.0])
    assert session.num_points == 1
