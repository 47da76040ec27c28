"""The live tracks against the truth of a generated clip, beside two methods to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation.baselines import LucasKanade, NeverMoves
from taptrv2_core.evaluation.metrics import evaluated_frames, tapvid_metrics
from taptrv2_core.evaluation.tracking import TrackResult


@dataclass(frozen=True)
class Truth:
    """Where the points of a clip really are.

    Attributes:
        query_frame: (N,) the image each point is added at.
        xy: (T, N, 2) pixels x, y.
        visible: (T, N).
    """

    query_frame: NDArray[np.int64]
    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]

    @property
    def query_xy(self) -> NDArray[np.float32]:
        """(N, 2) pixels: where each point is in the image it is added at."""
        return np.take_along_axis(self.xy, self.query_frame[None, :, None], axis=0)[0]

    def until(self, frames: int) -> Truth:
        """The first ``frames`` images, and the points that were added in them."""
        kept = self.query_frame < frames
        return Truth(self.query_frame[kept], self.xy[:frames, kept], self.visible[:frames, kept])


@dataclass(frozen=True)
class Score:
    """How one method did. Shares lie in [0, 1]."""

    name: str
    error: NDArray[np.float64]
    """(T, N) distance in pixels of the image; NaN where nothing is scored (hidden, or not after the query)."""
    delta_avg: float
    """TAP-Vid: mean share of visible points within 1, 2, 4, 8, 16 pixels, of images scaled to 256 x 256."""
    visibility_accuracy: float


def score_all(live: TrackResult, truth: Truth, video: NDArray[np.uint8]) -> list[Score]:
    """The live tracks, points that never move, and OpenCV's LK, on the same images (T, H, W, 3) RGB and queries."""
    results = [("TAPTRv2, live", live)]
    for method in (NeverMoves(), LucasKanade()):
        results.append((method.name, method.track(video, truth.query_frame, truth.query_xy)))
    return [_score(name, result, truth, (video.shape[1], video.shape[2])) for name, result in results]


def score_table(scores: list[Score]) -> list[str]:
    """Lines of a table to print."""
    lines = [f"{'':16}{'median error':>14}{'mean error':>13}{'delta_avg':>11}{'visibility':>12}"]
    for score in scores:
        median, mean = np.nanmedian(score.error), np.nanmean(score.error)
        shares = f"{score.delta_avg:>11.3f}{100 * score.visibility_accuracy:>10.1f} %"
        lines.append(f"{score.name:16}{median:>11.2f} px{mean:>10.2f} px{shares}")
    return lines


def _score(name: str, result: TrackResult, truth: Truth, size: tuple[int, int]) -> Score:
    metrics = tapvid_metrics(result, truth.xy, truth.visible, truth.query_frame, size)
    counted = evaluated_frames(len(truth.xy), truth.query_frame, "first") & truth.visible
    error = np.where(counted, np.linalg.norm(result.xy - truth.xy, axis=-1).astype(np.float64), np.nan)
    return Score(name, error, metrics.delta_avg, metrics.occlusion_accuracy)
