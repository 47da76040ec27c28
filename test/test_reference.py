"""Points given in a picture that is not part of the stream."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import TINY, tiny_model

from taptrv2_core import ImageError, PointError, Taptr, Tracker, Tracks, load_model
from taptrv2_core.evaluation.generated import synthetic_dataset

Image = NDArray[np.uint8]
SIZE = 256


@pytest.fixture(scope="module")
def model() -> Taptr:
    return load_model("small", "cpu")


@pytest.fixture(scope="module")
def pictures() -> tuple[Image, Image]:
    """Of two scenes, (256, 256, 3)."""
    first, second = (sample.video[0] for sample in synthetic_dataset(2, 2, SIZE).samples)
    return first, second


@pytest.fixture(scope="module")
def corners(pictures: tuple[Image, Image]) -> NDArray[np.float32]:
    """(N, 2) pixels of the first picture, well inside."""
    grey = cv2.cvtColor(pictures[0], cv2.COLOR_RGB2GRAY)
    mask = np.zeros_like(grey)
    mask[64:192, 64:192] = 255
    return cv2.goodFeaturesToTrack(grey, 24, 0.02, 10, mask=mask).reshape(-1, 2)


def moved(image: Image, step: tuple[float, float]) -> Image:
    """Everything (x, y) pixels farther, a little darker, with noise."""
    shift = np.array([[1, 0, step[0]], [0, 1, step[1]]])
    out = 0.9 * cv2.warpAffine(image, shift, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    return np.clip(out + np.random.default_rng(0).normal(0, 2, out.shape), 0, 255).astype(np.uint8)


def share_found(tracks: Tracks, xy: NDArray[np.float32], step: tuple[float, float]) -> float:
    """Share of points that are called visible, within 3 pixels of where they are."""
    near = np.linalg.norm(tracks.xy - (xy + step), axis=1) < 3
    return float((near & tracks.visible).mean())


def found_by(history: list[Tracks]) -> list[list[bool]]:
    """Of each frame's points, whether they were called visible in it or before."""
    seen: set[int] = set()
    by_frame = []
    for tracks in history:
        seen |= set(tracks.ids[tracks.visible].tolist())
        by_frame.append([point in seen for point in tracks.ids.tolist()])
    return by_frame


STEPS = [(40.0, -25.0), (41.0, -25.0), (42.5, -24.0)]


def test_is_found_where_it_is_now(model: Taptr, pictures: tuple[Image, Image], corners: NDArray[np.float32]) -> None:
    tracker = Tracker(model)
    tracker.step(pictures[1])
    picture = pictures[0].copy()
    ids = tracker.add_reference(picture, corners)
    picture[:] = 0  # the tracker has one of its own
    queries = tracker.queries()
    assert queries.ids.tolist() == ids and not queries.visible.any() and (queries.frame_index == -1).all()
    shares = [share_found(tracker.step(moved(pictures[0], step)), corners, step) for step in STEPS]
    assert len(corners) > 12 and min(shares) > 0.75, shares
    assert (tracker.queries().frame_index == -1).all() and tracker.queries().visible.mean() > 0.75


def test_a_part_cut_out_is_found(model: Taptr, pictures: tuple[Image, Image], corners: NDArray[np.float32]) -> None:
    tracker = Tracker(model)
    tracker.add_reference(pictures[0][50:206, 50:206], corners - 50)  # before the first image: it waits
    assert tracker.queries().x.tolist() == (corners[:, 0] - 50).tolist()
    shares = [share_found(tracker.step(moved(pictures[0], step)), corners, step) for step in STEPS]
    assert shares[-1] > 0.75, shares


def test_is_found_in_the_images_held(model: Taptr, pictures: tuple[Image, Image], corners: NDArray[np.float32]) -> None:
    """Also where a window has committed already: it does so again, with the new points."""
    tracker = Tracker(model)
    for number in range(8):
        tracker.step(moved(pictures[0], (40.0 + number, -25.0)))
    assert tracker.commits
    tracker.add_reference(pictures[0], corners)
    last = tracker.finish()
    assert [tracks.frame_index for tracks in last] == list(range(8))
    for number, tracks in enumerate(last):
        assert share_found(tracks, corners, (40.0 + number, -25.0)) > 0.75
    assert share_found(tracker.step(moved(pictures[0], (48.0, -25.0))), corners, (48.0, -25.0)) > 0.75


def test_outlives_a_reset(model: Taptr, pictures: tuple[Image, Image], corners: NDArray[np.float32]) -> None:
    tracker = Tracker(model)
    tracker.step(pictures[0])
    given = tracker.add_points([(128, 128)])
    ids = tracker.add_reference(pictures[0], corners)
    tracker.remove_points(ids[:2])
    tracker.reset()
    assert tracker.num_points == len(corners) - 2
    later = tracker.add_points([(10, 10)])
    assert later[0] > max(ids + given)
    tracks = tracker.step(moved(pictures[0], STEPS[0]))
    assert tracks.ids.tolist() == ids[2:] + later  # rising
    tracks = tracker.step(moved(pictures[0], STEPS[1]))
    mine = np.isin(tracks.ids, ids)
    assert (np.linalg.norm(tracks.xy[mine] - (corners[2:] + STEPS[1]), axis=1) < 3).mean() > 0.75
    tracker.clear()
    tracker.reset()
    assert tracker.num_points == 0


def test_is_found_from_when_it_is_seen(
    model: Taptr, pictures: tuple[Image, Image], corners: NDArray[np.float32]
) -> None:
    """In the answers for the newest frames and in the refined ones, each for themselves; anew after a reset."""
    tracker = Tracker(model)
    ids = tracker.add_reference(pictures[0], corners)
    assert not tracker.queries().found.any()
    for _ in range(2):
        (given,) = tracker.add_points([(128.0, 128.0)])
        assert tracker.queries().found.tolist() == [point == given for point in tracker.queries().ids]
        newest = [tracker.step(pictures[1] if t < 5 else moved(pictures[0], STEPS[t % 3])) for t in range(18)]
        final = [older for tracks in newest for older in tracks.refined if older.final]
        assert [tracks.frame_index for tracks in final] == list(range(12))
        last = tracker.finish()[-6:]
        for stream in (newest, final + list(last)):
            mine = [replace(t, ids=t.ids[t.ids != given], visible=t.visible[t.ids != given]) for t in stream]
            found = np.array([t.found[t.ids != given] for t in stream])
            assert all(t.found[t.ids == given].all() for t in stream)
            assert (found >= found_by(mine)).all() and (found[1:] >= found[:-1]).all()
            assert (~found[4] & found[-1]).mean() > 0.7
            np.testing.assert_array_equal(np.isnan(stream[4].found_xy[:, 0]), ~stream[4].found)
        np.testing.assert_array_equal([t.found[t.ids != given] for t in final], found_by(mine)[:12])
        tracker.reset()
        assert not tracker.queries().found.any()
    tracker.remove_points(ids)
    assert tracker.num_points == 0


@pytest.mark.parametrize("motion", ["none", "flow"])
def test_any_network_takes_it(motion: str, pictures: tuple[Image, Image]) -> None:
    """Without a search it only finds what is where it was."""
    tracker = Tracker(tiny_model(config=replace(TINY, motion=motion)))
    for index in range(10):
        tracks = tracker.step(pictures[0])
        assert len(tracks.ids) == index and np.isfinite(tracks.xy).all()
        tracker.add_reference(pictures[0][:, :100], [(50.0, 60.0 + index)])


def refused(tracker: Tracker) -> list[str]:
    """What is said of references that cannot be used."""
    picture, said = np.full((40, 60, 3), 90, np.uint8), []
    cases = [
        (picture, [(60.0, 3.0)]), (picture, [(np.nan, 1.0)]), (picture, [(1.0, 1.0)] * 5), (picture, [1.0, 2.0, 3.0]),
        (np.zeros((40, 60, 2), np.uint8), [(1.0, 1.0)]), (picture // 3, [(1.0, 1.0)]),
    ]  # fmt: skip
    if tracker.image_size:
        cases.append((np.full((65, 60, 3), 90, np.uint8), [(1.0, 1.0)]))
    for image, points in cases:
        before = tracker.num_points
        try:
            tracker.add_reference(image, points)
        except (PointError, ImageError) as error:
            said.append(f"{type(error).__name__} {error}")
        assert tracker.num_points == before
    return said


def test_what_cannot_be_used_is_refused() -> None:
    tracker = Tracker(tiny_model(), max_points=4)
    early = refused(tracker)
    tracker.step(np.zeros((64, 64, 3), np.uint8))
    said = refused(tracker)
    assert early == said[:6] and len(said) == 7
    assert "outside the image of 60 x 40 pixels" in said[0] and "NaN" in said[1] and "max_points" in said[2]
    assert said[4].startswith("ImageError image has shape (40, 60, 2)")
    assert said[5].startswith("ImageError picture is nearly black")
    assert "the reference is 60 x 65 pixels, larger than the stream's images of 64 x 64" in said[6]
    assert tracker.add_reference(np.full((40, 60), 90, np.uint8), []) == []
    tracker.reset()
    assert tracker.num_points == 0


def test_one_too_large_for_the_first_image_is_named() -> None:
    tracker = Tracker(tiny_model())
    tracker.add_points([(5.0, 5.0)])
    ids = tracker.add_reference(np.full((65, 60, 3), 90, np.uint8), [(1.0, 1.0), (2.0, 64.0)])
    with pytest.raises(
        PointError, match=r"the reference of the points with ids 1, 2 is 60 x 65 .* and step again"
    ) as error:
        tracker.step(np.zeros((64, 64, 3), np.uint8))
    assert list(error.value.ids) == ids and tracker.frame_index == -1
    tracker.remove_points(error.value.ids)
    assert tracker.step(np.zeros((64, 64, 3), np.uint8)).ids.tolist() == [0]
