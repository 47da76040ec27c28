"""Our tracker as a method of the evaluation, the evaluation's tables, and ``taptr evaluate``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from moving import FRAMES, HEIGHT, WIDTH, moving_sample
from tiny import tiny_model

from taptrv2_core import Taptr
from taptrv2_core.evaluation.adapter import RefinedTaptr, StreamingTaptr, evaluate_model
from taptrv2_core.evaluation.baselines import LucasKanade, NeverMoves
from taptrv2_core.evaluation.datasets import load_frames_folder
from taptrv2_core.evaluation.generated import synthetic_dataset
from taptrv2_core.evaluation.report import as_dict, breakdown_table, metrics_table
from taptrv2_core.evaluation.runner import evaluate
from taptrv2_core.evaluation.samples import Sample
from taptrv2_core.evaluation.support import WithSupport
from taptrv2_core.evaluation.tracking import Floats, Ints, TrackResult, Video


@pytest.fixture(scope="module")
def model() -> Taptr:
    return tiny_model()


class Perfect:
    """Knows the answer."""

    name = "perfect"

    def __init__(self, sample: Sample) -> None:
        self.sample = sample

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        return TrackResult(self.sample.gt_xy, self.sample.gt_visible)


def test_methods_are_ranked_as_they_should_be() -> None:
    sample = moving_sample()
    perfect, lk, still = evaluate([Perfect(sample), LucasKanade(window=11), NeverMoves()], [sample])
    assert perfect.mean.average_jaccard == perfect.mean.delta_avg == perfect.mean.occlusion_accuracy == 1.0
    assert lk.mean.delta_avg > 0.95
    assert still.mean.delta_avg < 0.5
    assert still.mean.median_error > 10
    assert lk.frames == FRAMES
    assert lk.frames_per_second > 0


def test_strided_queries_are_tracked_both_ways() -> None:
    sample = moving_sample(query_mode="strided")
    (lk,) = evaluate([LucasKanade(window=11)], [sample])
    assert lk.mean.within_2 > 0.95  # of all frames, those before the queries included
    assert lk.frames == 2 * FRAMES


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no videos"):
        evaluate([NeverMoves()], [])


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (0, {}),
        (1, {"never moves": ["a"]}),  # of the first video what there is, afterwards videos that all methods have done
        (2, {"never moves": ["a"], "OpenCV LK": ["a"]}),
        (3, {"never moves": ["a"], "OpenCV LK": ["a"]}),
        (4, {"never moves": ["a", "b"], "OpenCV LK": ["a", "b"]}),
    ],
)
def test_an_evaluation_interrupted_after_some_runs(runs: int, expected: dict[str, list[str]]) -> None:
    done: list[str] = []
    samples = [moving_sample("a"), moving_sample("b")]
    results = evaluate(
        [NeverMoves(), LucasKanade()], samples, lambda sample, method: done.append(method), lambda: len(done) == runs
    )
    assert len(done) == runs
    assert {result.name: [name for name, _ in result.videos] for result in results} == expected
    assert all(result.frames == FRAMES * len(result.videos) for result in results)


def test_streaming_and_refined_agree_where_a_window_commits(model: Taptr) -> None:
    """Frame 11 is the newest of a committing window and the video's last: both outputs are that window's."""
    sample = moving_sample()
    given = (sample.video, sample.query_frame, sample.query_xy)
    streaming, refined = StreamingTaptr(model).track(*given), RefinedTaptr(model).track(*given)
    np.testing.assert_allclose(streaming.xy[11], refined.xy[11], atol=1e-4)
    np.testing.assert_array_equal(streaming.visible[11], refined.visible[11])
    # A tiny random network moves points; before the last window the stream knew less than the refinement.
    assert np.abs(refined.xy[11] - sample.query_xy).max() > 0.5
    assert np.abs(streaming.xy[8] - refined.xy[8]).max() > 1e-3
    for result in (streaming, refined):
        np.testing.assert_array_equal(result.xy[:6, 2], np.repeat(sample.query_xy[2:], 6, 0))
        assert result.visible[5, 2]
        assert not result.visible[:5, 2].any()


def test_streaming_never_sees_the_future(model: Taptr) -> None:
    sample = moving_sample()
    whole = StreamingTaptr(model).track(sample.video, sample.query_frame, sample.query_xy)
    begun = StreamingTaptr(model).track(sample.video[:9], sample.query_frame, sample.query_xy)
    np.testing.assert_allclose(whole.xy[:9], begun.xy, atol=1e-4)


def test_queries_a_little_outside_the_image_are_taken_at_its_edge(model: Taptr) -> None:
    video = moving_sample().video
    outside = np.array([[-3.0, 10.0], [WIDTH + 2.0, 10.0]], np.float32)
    for tracker in (StreamingTaptr(model), RefinedTaptr(model)):
        result = tracker.track(video, np.zeros(2, np.int64), outside)
        assert np.isfinite(result.xy).all()
        np.testing.assert_array_equal(result.xy[0], outside)


class Listening:
    """Keeps what it is asked, and says that every point never moves."""

    name = "listening"

    def track(self, video: Video, query_frame: Ints, query_xy: Floats) -> TrackResult:
        self.frame, self.xy = query_frame, query_xy
        return NeverMoves().track(video, query_frame, query_xy)


def test_support_queries_fill_up_and_are_not_scored() -> None:
    sample, inner = moving_sample(), Listening()
    given = (sample.video, sample.query_frame, sample.query_xy)
    result = WithSupport(inner, 40).track(*given)
    assert result.xy.shape == (FRAMES, 3, 2) and result.visible.shape == (FRAMES, 3)
    assert inner.frame.shape == (40,) and inner.xy.shape == (40, 2)
    np.testing.assert_array_equal(inner.xy[:3], sample.query_xy)
    assert set(inner.frame[3:].tolist()) == {0, 5}  # where real ones are given, so that these have company
    assert ((inner.xy >= -0.5) & (inner.xy <= (WIDTH - 0.5, HEIGHT - 0.5))).all()
    assert np.ptp(inner.xy[3:], axis=0).min() > 30
    support = inner.xy
    WithSupport(inner, 40).track(*given)
    np.testing.assert_array_equal(inner.xy, support)
    WithSupport(inner, 2).track(*given)  # more real ones than that: none are added, none left out
    assert len(inner.frame) == 3


def test_support_queries_keep_the_real_ones_company(model: Taptr) -> None:
    sample = moving_sample()
    given = (sample.video, sample.query_frame, sample.query_xy)
    for tracker in (StreamingTaptr(model), RefinedTaptr(model)):
        alone, accompanied = tracker.track(*given), WithSupport(tracker, 20).track(*given)
        np.testing.assert_array_equal(alone.xy[0], accompanied.xy[0])
        assert np.abs(alone.xy - accompanied.xy).max() > 1e-3


def test_evaluate_model_for_a_training_log(model: Taptr) -> None:
    samples = [moving_sample("a"), moving_sample("b")]
    model.train()
    for refined in (False, True):
        figures = evaluate_model(model, samples, refined)
        method = (RefinedTaptr if refined else StreamingTaptr)(model)
        assert model.training
        model.eval()
        (direct,) = evaluate([method], samples)
        model.train()
        for name in ("average_jaccard", "delta_avg", "occlusion_accuracy"):
            assert figures[name] == pytest.approx(getattr(direct.mean, name))
        assert figures["delta_avg/16-32 px"] == pytest.approx(direct.groups["16-32 px"].shares()["delta_avg"])
        assert all(np.isfinite(list(figures.values())))
    model.eval()


def test_tables_have_a_row_a_method_and_leave_out_empty_groups() -> None:
    results = evaluate([NeverMoves(), LucasKanade()], [moving_sample()])
    lines = metrics_table(results).splitlines()
    assert lines[0].split()[:4] == ["method", "AJ", "delta_avg", "OA"]
    assert lines[2].startswith("never moves")
    assert f"{results[0].mean.average_jaccard:.3f}" in lines[2]
    assert len({len(line) for line in lines}) == 1
    groups = breakdown_table(results)
    assert "> 32 px" in groups
    assert "hidden" not in groups  # the third track is hidden before its query only
    assert as_dict(results)["never moves"]["groups"]["hidden"]["delta_avg"] is None


def test_generated_clips_are_the_same_on_every_call_and_fit_their_tracks() -> None:
    def clips() -> list[Sample]:
        return list(synthetic_dataset(clips=2, frames=6, size=64, points=16).samples)

    first, again = clips(), clips()
    assert len(first) == 2
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.video, b.video)
        np.testing.assert_array_equal(a.gt_xy, b.gt_xy)
        points = np.arange(16)
        assert a.gt_visible[a.query_frame, points].all()
        np.testing.assert_array_equal(a.query_xy, a.gt_xy[a.query_frame, points])
        assert a.known[a.gt_visible].all()
        assert a.scored.all()
    assert (first[0].video != first[1].video).any()


def test_baselines_on_the_labelled_house(shared_data: Path) -> None:
    """The figures these baselines are known to reach there: a check of metrics, loader and LK together."""
    for resize, lk_delta in ((False, 0.836), (True, 0.773)):
        sample = load_frames_folder(shared_data / "house", resize=resize)
        still, lk = evaluate([NeverMoves(), LucasKanade()], [sample])
        assert still.mean.delta_avg == pytest.approx(0.238, abs=0.002)
        assert lk.mean.delta_avg == pytest.approx(lk_delta, abs=0.02)
