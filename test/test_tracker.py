"""The tracker's own duties: ids, stamps, pixels, and refusals that leave it as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_model

from taptrv2_core import ImageError, PointError, Taptr, Tracker, encode_images
from taptrv2_core.fast.allocator import is_out_of_memory
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


def test_queries_are_where_the_newest_answer_has_them(tracker: Tracker) -> None:
    """Also after points have come and gone since, and more than one answer later."""
    tracker.add_points([(5, 5), (20, 10), (40, 30)])
    for _ in range(3):
        tracks = tracker.step(IMAGE)
    tracker.remove_points([1])
    tracker.add_points([(60, 40)])
    queries = tracker.queries()
    assert queries.ids.tolist() == [0, 2, 3]
    np.testing.assert_array_equal(np.stack((queries.x, queries.y), -1), [*tracks.xy[[0, 2]], (60, 40)])
    np.testing.assert_array_equal(queries.visibility[:2], tracks.visibility[[0, 2]])
    tracks = tracker.step(IMAGE)
    np.testing.assert_array_equal(tracker.queries().x, tracks.x)


def test_stamps_name_the_held_frames(tracker: Tracker) -> None:
    assert tracker.finish() == ()
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


@pytest.mark.parametrize("size", [(64, 64), (150, 170)])
def test_images_that_must_not_be_written_to_give_no_warning(
    tracker: Tracker, size: tuple[int, int], recwarn: pytest.WarningsRecorder
) -> None:
    image = np.frombuffer(bytes(3 * size[0] * size[1]), np.uint8).reshape(*size, 3)
    torch.set_warn_always(True)
    try:
        tracker.step(image)
    finally:
        torch.set_warn_always(False)
    assert [str(w.message) for w in recwarn if "writable" in str(w.message)] == []


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


def test_images_encoded_together_give_what_each_gives_alone(model: Taptr) -> None:
    images = [IMAGE, np.ascontiguousarray(IMAGE[:30, ::-1])]  # two cameras, of different size
    alone, together = ([Tracker(model) for _ in images] for _ in range(2))
    for tracker in (*alone, *together):
        tracker.add_points([(20, 20), (3.5, 7)])
    for t in range(10):
        now = [np.roll(image, t, axis=1) for image in images]
        for tracker, other, image, encoded in zip(alone, together, now, encode_images(model, now), strict=True):
            expected, tracks = tracker.step(image, stamp=t), other.step(encoded, stamp=t)
            np.testing.assert_allclose(tracks.xy, expected.xy, atol=1e-2)
            np.testing.assert_allclose(tracks.visibility, expected.visibility, atol=1e-3)
            assert len(tracks.refined) == len(expected.refined)
    with pytest.raises(ImageError, match="80 x 48 pixels, the stream's are 80 x 30"):
        together[1].step(encode_images(model, [IMAGE])[0])
    assert encode_images(model, []) == []


def test_an_answer_that_found_no_memory_can_be_asked_for_again(model: Taptr, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, tracker = Tracker(model), Tracker(model)
    for each in (expected, tracker):
        each.add_points([(20, 20), (30, 30)])
    decode = type(model).decode

    def scarce(self: Taptr, content: torch.Tensor, *rest: object) -> object:
        if content.shape[2] > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return decode(self, content, *rest)  # type: ignore[arg-type]

    for t in range(12):
        image = np.roll(IMAGE, t, axis=1)
        if t == 7:
            expected.remove_points([1])
        reference = expected.step(image)
        tracker.take(image)
        if t == 7:  # in a window that commits
            monkeypatch.setattr(type(model), "decode", scarce)
            with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
                tracker.answer()
            assert is_out_of_memory(caught.value)
            tracker.remove_points([1])
        np.testing.assert_allclose(tracker.answer().xy, reference.xy, atol=1e-3)


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_exhausted_memory_is_told_from_other_failures(error: Exception, exhausted: bool) -> None:
    assert is_out_of_memory(error) == exhausted
