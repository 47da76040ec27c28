"""The tracker's own duties: ids, stamps, pixels, and refusals that leave it as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_model

from taptrv2_core import ImageError, PointError, Taptr, Tracker
from taptrv2_core.geometry import PixelMap

HEIGHT, WIDTH = 48, 80
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> Taptr:
    return tiny_model()


@pytest.fixture
def tracker(model: Taptr) -> Tracker:
    return Tracker(model, max_points=10)


def test_three_calls(model: Taptr) -> None:
    tracker = Tracker(model)
    ids = tracker.add_points([(32.0, 24.0)])
    tracks = tracker.step(IMAGE)
    assert ids == [0]
    assert tracks.ids.tolist() == [0]
    assert (tracks.frame_index, tracks.stamp) == (0, 0)
    np.testing.assert_allclose(tracks.xy, [[32.0, 24.0]], atol=1e-3)
    assert tracks.visible.all()
    assert tracks.visibility.dtype == np.float32


def test_pixels_survive_the_resizing_to_the_networks_size(tracker: Tracker) -> None:
    """Queries come back where they were put, at the corners too (within the network's clamp of 0.001 of the image)."""
    points = [(0.0, 0.0), (WIDTH - 1.0, HEIGHT - 1.0), (12.25, 40.5)]
    tracker.add_points(points)
    np.testing.assert_allclose(tracker.step(IMAGE).xy, points, atol=0.25)


def test_pixel_map_follows_opencvs_resize() -> None:
    cv2 = pytest.importorskip("cv2")
    ramp = np.tile(np.arange(100, dtype=np.float32), (50, 1))
    small = cv2.resize(ramp, (25, 10), interpolation=cv2.INTER_AREA)
    at = PixelMap((50, 100), (10, 25)).to_pixels(torch.tensor([[7 / 24, 3 / 9]], dtype=torch.float64))[0]
    assert float(at[0]) == pytest.approx(float(small[3, 7]))
    same = PixelMap((50, 100), (50, 100)).to_position(torch.tensor([[99.0, 49.0], [0.0, 0.0]]))
    torch.testing.assert_close(same, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


def test_ids_are_never_reused(tracker: Tracker) -> None:
    assert tracker.add_points([(1, 1), (2, 2)]) == [0, 1]
    tracker.step(IMAGE)
    tracker.remove_points([1])
    assert tracker.add_points([(3, 3)]) == [2]
    assert tracker.clear() == 2
    tracker.reset()
    assert tracker.add_points([(3, 3)]) == [3]


def test_removing_all_leaves_an_idle_tracker(tracker: Tracker) -> None:
    tracker.add_points([(1, 1), (2, 2)])
    for _ in range(9):
        tracker.step(IMAGE)
    tracker.clear()
    tracks = tracker.step(IMAGE)
    assert len(tracks.ids) == 0
    assert tracks.xy.shape == (0, 2)
    assert tracks.frame_index == 9
    tracker.step(IMAGE)
    refined = tracker.step(IMAGE).refined
    assert [len(r.ids) for r in refined] == [0] * 7
    (new,) = tracker.add_points([(5, 5)])
    assert tracker.step(IMAGE).ids.tolist() == [new]


def test_stamps_name_the_held_frames(tracker: Tracker) -> None:
    for t in range(12):
        tracker.step(IMAGE, stamp=1_000_000_000 + 50 * t)
    assert tracker.held_stamps == tuple(1_000_000_000 + 50 * t for t in range(4, 12))
    tracker.add_points([(5, 5)], stamp=1_000_000_200)
    assert tracker.queries().frame_index.tolist() == [4]
    with pytest.raises(
        PointError, match=r"no image with stamp 1000000150 is held: the 8 images held have stamps 10000002"
    ):
        tracker.add_points([(5, 5)], stamp=1_000_000_150)


def test_refined_results_are_of_the_seven_older_frames(tracker: Tracker) -> None:
    tracker.step(IMAGE)
    tracker.add_points([(5, 5)])
    counts = [len(tracker.step(IMAGE, stamp=100 + t).refined) for t in range(1, 13)]
    assert counts == [0] * 6 + [7] + [0] * 3 + [7] + [0]
    tracker.step(IMAGE)
    tracker.step(IMAGE)
    refined = tracker.step(IMAGE, stamp=115).refined
    assert [(r.frame_index, r.final) for r in refined] == [(f, f < 12) for f in range(8, 15)]
    assert [r.ids.tolist() for r in refined] == [[0]] * 7


def test_refined_results_leave_out_points_that_came_later(tracker: Tracker) -> None:
    for t in range(8):
        tracks = tracker.step(IMAGE)
        if t == 3:
            tracker.add_points([(5, 5)])
    assert [len(r.ids) for r in tracks.refined] == [0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(tracks.refined[3].xy, [[5, 5]], atol=1e-2)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(float("nan"), 1)], r"points 0 of the request have NaN"),
        ([(1, 1), (float("inf"), 1)], r"points 1 of the request have NaN or infinite"),
        (
            [(1, 1), (WIDTH, 1)],
            r"points 1 of the request lie outside the image of 80 x 48 pixels, the first at \(80, 1\)",
        ),
        ([(-1, 3)], "outside the image"),
        ([(1, 1)] * 11, r"11 more points would make 12; at most 10 \(max_points\)"),
        ([(1, 2, 3)], r"points have shape \(1, 3\); expected \(N, 2\)"),
        ([("a", "b")], "pairs of numbers"),
    ],
)
def test_bad_points_are_refused_as_a_whole(tracker: Tracker, points: list[tuple[float, ...]], message: str) -> None:
    tracker.add_points([(1, 1)])
    tracker.step(IMAGE)
    with pytest.raises(PointError, match=message):
        tracker.add_points(points)
    assert tracker.num_points == 1
    assert tracker.step(IMAGE).ids.tolist() == [0]
    assert tracker.add_points([(2, 2)]) == [1]


def test_no_points_is_a_request_like_others(tracker: Tracker) -> None:
    assert tracker.add_points([]) == []
    tracker.remove_points([])
    assert len(tracker.step(IMAGE).ids) == 0


def test_points_before_the_first_image(tracker: Tracker) -> None:
    with pytest.raises(PointError, match="outside any image"):
        tracker.add_points([(-3, 1)])
    tracker.add_points([(10, 10), (500, 10), (20, 20)])
    assert tracker.queries().frame_index.tolist() == [-1, -1, -1]
    with pytest.raises(PointError, match=r"ids 1, added before the first image, lie outside .* remove them") as refused:
        tracker.step(IMAGE)
    assert tracker.frame_index == -1
    tracker.remove_points(refused.value.ids)
    assert tracker.step(IMAGE).ids.tolist() == [0, 2]
    with pytest.raises(PointError, match="no image with stamp 7"):
        Tracker(tracker.model).add_points([(1, 1)], stamp=7)


def test_unknown_ids_remove_nothing(tracker: Tracker) -> None:
    tracker.add_points([(1, 1)])
    with pytest.raises(PointError, match="no points with ids 5, 6 are followed"):
        tracker.remove_points([0, 5, 6])
    assert tracker.num_points == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\); expected"),
        (np.zeros((0, 4, 3), np.uint8), "the least is 2 x 2"),
        (np.zeros((4,), np.uint8), "expected"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint16), "uint16; expected uint8"),
        (np.full((HEIGHT, WIDTH, 3), 2.0), r"from 2 to 2; expected \[0, 1\]"),
        (np.full((HEIGHT, WIDTH), np.nan), "without NaN"),
        (np.zeros((HEIGHT, HEIGHT, 3), np.uint8), "48 x 48 pixels, the stream's are 80 x 48"),
    ],
)
def test_bad_images_are_refused(tracker: Tracker, image: np.ndarray, message: str) -> None:
    tracker.add_points([(1, 1)])
    tracker.step(IMAGE)
    with pytest.raises(ImageError, match=message):
        tracker.step(image)
    assert tracker.step(IMAGE).frame_index == 1


def test_grey_and_float_images_are_the_same_to_it(model: Taptr) -> None:
    grey = IMAGE[:, :, 1]
    kinds = [
        np.repeat(grey[..., None], 3, axis=2),
        grey,
        grey[..., None],
        grey / 255.0,
        (grey / 255.0).astype(np.float32),
    ]
    results = []
    for image in kinds:
        tracker = Tracker(model)
        tracker.add_points([(20, 20)])
        tracker.step(image)
        results.append(tracker.step(np.flipud(image)).xy)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-2)


def test_streams_share_a_model_and_nothing_else(model: Taptr) -> None:
    alone, first, second = Tracker(model), Tracker(model), Tracker(model)
    for tracker in (alone, first):
        tracker.add_points([(20, 20)])
    second.add_points([(40, 30), (3, 3)])
    for t in range(10):
        image = np.roll(IMAGE, t, axis=1)
        expected = alone.step(image)
        np.testing.assert_array_equal(first.step(image).xy, expected.xy)
        second.step(np.roll(IMAGE, -t, axis=0)[:40])


def test_impossible_settings(model: Taptr) -> None:
    with pytest.raises(ValueError, match="max_points is 0"):
        Tracker(model, max_points=0)
    with pytest.raises(ValueError, match="takeover_interval is 0"):
        Tracker(model, takeover_interval=0)
