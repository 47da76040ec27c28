"""References that are turned, nearer or farther than in their picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taptrv2_core import Taptr, Tracker, load_model
from taptrv2_core.consensus import agreed, moved, turn_and_scale
from taptrv2_core.evaluation.generated import synthetic_dataset
from taptrv2_core.given import Given
from taptrv2_core.lookout import A_FRAME, Lookout, Post
from taptrv2_core.views import SCOUTS, Picture, Views

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
SIZE = 256
IMAGES = 12


@pytest.fixture(scope="module")
def model() -> Taptr:
    return load_model("small", "cpu")


@pytest.fixture(scope="module")
def pictures() -> tuple[Image, Image]:
    """Of two scenes, (256, 256, 3)."""
    first, second = (sample.video[0] for sample in synthetic_dataset(2, 2, SIZE, seed=5).samples)
    return first, second


@pytest.fixture(scope="module")
def corners(pictures: tuple[Image, Image]) -> Points:
    """(N, 2) pixels of the first picture, well inside."""
    grey = cv2.cvtColor(pictures[0], cv2.COLOR_RGB2GRAY)
    mask = np.zeros_like(grey)
    mask[70:186, 70:186] = 255
    return cv2.goodFeaturesToTrack(grey, 20, 0.02, 10, mask=mask).reshape(-1, 2).astype(np.float64)


def scene(pictures: tuple[Image, Image], degrees: float, scale: float, number: int) -> tuple[Image, Points]:
    """The first picture as an image of a stream shows it, before the second; and the warp."""
    warp = cv2.getRotationMatrix2D((128, 128), degrees, scale)
    warp[:, 2] += (8 + number, -6)
    image = cv2.warpAffine(pictures[0], warp, (SIZE, SIZE), pictures[1].copy(), borderMode=cv2.BORDER_TRANSPARENT)
    noise = np.random.default_rng(number).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), np.asarray(warp)


def share_found(model: Taptr, pictures: tuple[Image, Image], xy: Points, degrees: float, scale: float) -> float:
    """Of points in the last image of a stream: called visible, within 4 pixels of where they are."""
    tracker = Tracker(model)
    tracker.add_reference(pictures[0], xy)
    for number in range(IMAGES):
        image, warp = scene(pictures, degrees, scale, number)
        tracks = tracker.step(image)
    true = moved(warp, xy)
    inside = ((true > 4) & (true < SIZE - 4)).all(axis=1)
    right = tracks.visible & (np.linalg.norm(tracks.xy - true, axis=1) < 4)
    assert inside.sum() >= len(xy) / 3
    return float(right[inside].mean())


@pytest.mark.parametrize(("degrees", "scale"), [(40, 1), (90, 1), (180, 1), (0, 0.5), (0, 1.8), (-110, 0.7)])
def test_is_found_in_any_view(
    model: Taptr, pictures: tuple[Image, Image], corners: Points, degrees: float, scale: float
) -> None:
    assert len(corners) > 12
    assert share_found(model, pictures, corners, degrees, scale) > 0.75


def test_what_comes_into_the_image_later_is_found(model: Taptr, pictures: tuple[Image, Image]) -> None:
    grey = cv2.cvtColor(pictures[0], cv2.COLOR_RGB2GRAY)
    xy = cv2.goodFeaturesToTrack(grey, 60, 0.01, 12).reshape(-1, 2).astype(np.float64)
    tracker = Tracker(model)
    tracker.add_reference(pictures[0], xy)
    seen = np.zeros(len(xy), dtype=bool)
    for number in range(36):
        warp = cv2.getRotationMatrix2D((128, 128), 120, 1.7)
        warp[0, 2] += 70 - 5 * max(0, number - 10)
        image = cv2.warpAffine(pictures[0], warp, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
        tracks, true = tracker.step(image), moved(warp, xy)
        inside = ((true > 12) & (true < SIZE - 12)).all(axis=1)
        right = tracks.visible & (np.linalg.norm(tracks.xy - true, axis=1) < 4)
        if number < 10:
            seen |= inside
    new = inside & ~seen
    assert new.sum() >= 5 and right[new].mean() > 0.6, (new.sum(), right[new].mean())


@pytest.mark.parametrize("count", [1, 2])
def test_a_few_points_are_found(model: Taptr, pictures: tuple[Image, Image], corners: Points, count: int) -> None:
    near = corners[np.argsort(np.linalg.norm(corners - 128, axis=1))]
    shares = [share_found(model, pictures, near[i : i + count], 135, 1) for i in (0, 3)]
    assert max(shares) == 1


def test_what_is_not_there_stays_hidden(model: Taptr, pictures: tuple[Image, Image], corners: Points) -> None:
    tracker = Tracker(model)
    tracker.add_reference(pictures[0], corners)
    shares = [tracker.step(np.roll(pictures[1], number, 1)).visible.mean() for number in range(24)]
    assert max(shares) <= 0.1


def test_is_found_after_a_reset_as_before(model: Taptr, pictures: tuple[Image, Image], corners: Points) -> None:
    """To the bit; and when some of its points are removed."""
    tracker, fresh = Tracker(model), Tracker(model)
    ids = tracker.add_reference(pictures[0], corners)
    tracker.step(pictures[1])
    tracker.reset()
    fresh.add_reference(pictures[0], corners)
    for number in range(IMAGES):
        image, _ = scene(pictures, 150, 1, number)
        again, first = tracker.step(image), fresh.step(image)
        np.testing.assert_array_equal(again.xy, first.xy)
        np.testing.assert_array_equal(again.visibility, first.visibility)
    tracker.remove_points(ids[::3])
    tracker.reset()
    for number in range(IMAGES):
        image, warp = scene(pictures, 30, 0.6, number)
        tracks = tracker.step(image)
    kept = np.delete(corners, np.arange(0, len(corners), 3), axis=0)
    near = np.linalg.norm(tracks.xy - moved(warp, kept), axis=1) < 4
    assert (near & tracks.visible).mean() > 0.75


def test_other_points_do_not_notice(model: Taptr, pictures: tuple[Image, Image], corners: Points) -> None:
    """While few are lost nobody looks, and nothing is another to the bit."""
    alone, beside = Tracker(model), Tracker(model)
    image, _ = scene(pictures, 90, 1, 0)
    for tracker in (alone, beside):
        tracker.step(image)
        tracker.add_points(corners[:4])
    before = alone.step(image)
    beside._engine._lookout.add(Views.of(model, Picture(pictures[0], corners[:4], (SIZE, SIZE))), 0)
    now = beside.step(image)
    np.testing.assert_array_equal(now.xy, before.xy)
    np.testing.assert_array_equal(now.visibility, before.visibility)


def test_memory_is_bounded(model: Taptr, pictures: tuple[Image, Image]) -> None:
    """No images are kept, and of many points no more than of `SCOUTS`."""
    xy = np.random.default_rng(0).uniform(20, 236, (500, 2))
    views = Views.of(model, Picture(pictures[0], xy, (SIZE, SIZE)))
    held = sum(view.content.numel() for view in views.views)
    assert 0 < held <= len(views.views) * SCOUTS * model.config.channels
    assert all(view.content.untyped_storage().nbytes() == view.content.nbytes for view in views.views)
    given = Given([0], xy[:1], pictures[0])
    layouts = [given.laid_out(model, size) for size in ((SIZE, SIZE), (SIZE, SIZE), (300, 256))]
    assert all(layouts) and layouts[0].views is layouts[1].views and len(given._views) == 1


def test_points_far_apart(model: Taptr, pictures: tuple[Image, Image]) -> None:
    """In enlarged views none of them is inside."""
    tracker = Tracker(model)
    tracker.add_reference(pictures[0], [(5, 5), (250, 250)])
    for number in range(8):
        tracks = tracker.step(np.roll(pictures[1], number, 1))
    assert np.isfinite(tracks.xy).all()


def test_views_take_turns(model: Taptr, pictures: tuple[Image, Image]) -> None:
    xy = np.random.default_rng(0).uniform(100, 156, (60, 2))
    post = Post.of(Views.of(model, Picture(pictures[0], xy, (SIZE, SIZE))), 0)
    tried = []
    while len(tried) < len(post.views.views):
        views, post = post.tried()
        assert 0 < sum(len(view.rows) for view in views) <= A_FRAME
        tried += views
    assert {id(view) for view in tried} == {id(view) for view in post.views.views}


def test_lookout_follows_its_rows(model: Taptr, pictures: tuple[Image, Image], corners: Points) -> None:
    lookout = Lookout()
    for first in (2, 10):
        lookout.add(Views.of(model, Picture(pictures[0], corners[:4], (SIZE, SIZE))), first)
    lookout.keep(np.array([0, 2, 3, 5, 11]))
    assert [post.rows.tolist() for post in lookout._posts] == [[1, 2, 3], [4]]
    assert [len(post.views.picture.xy) for post in lookout._posts] == [3, 1]
    np.testing.assert_array_equal(lookout._posts[0].views.picture.xy, corners[[0, 1, 3]])
    lookout.keep(np.array([0]))
    assert not lookout._posts


@pytest.mark.parametrize(("degrees", "scale"), [(0, 0.6), (0, 1.7), (100, 0.6), (100, 1.7)])
def test_consensus(degrees: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 200, (20, 2))
    warp = cv2.getRotationMatrix2D((30, 50), degrees, scale)
    found = moved(warp, xy) + rng.normal(0, 1, xy.shape)
    found[:8] = rng.uniform(0, 400, (8, 2))
    near = cv2.getRotationMatrix2D((0, 0), degrees + 20, scale * 1.3)
    said = agreed(xy, found, np.full(20, 0.5), near, 400)
    assert said is not None and 0.29 <= said.weight <= 0.35
    assert turn_and_scale(said.warp) == pytest.approx((degrees, scale), rel=0.05, abs=2)
    again = agreed(xy, found, np.full(20, 0.5), near, 400)
    assert again is not None
    np.testing.assert_array_equal(again.warp, said.warp)
    assert agreed(xy, found, np.full(20, 0.5), cv2.getRotationMatrix2D((0, 0), degrees + 90, scale), 400) is None
    assert agreed(xy[:0], found[:0], np.zeros(0), near, 400) is None
