"""Names of all figures of a recording, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from taptrv2_core.evaluation.metrics import THRESHOLDS

Figures = dict[str, dict[str, float]]
"""Section -> name -> value; NaN where there was nothing to measure."""


class Meaning(NamedTuple):
    """What a figure is called in tables, its unit, and what it says."""

    label: str
    unit: str
    text: str


_PX = " ".join(f"{threshold:g}" for threshold in THRESHOLDS)
MEANINGS: dict[str, dict[str, Meaning]] = {
    "ground_truth": {
        "average_jaccard": Meaning("AJ", "%", "average Jaccard: position and visibility together (TAP-Vid)"),
        "delta_avg": Meaning("delta_avg", "%", f"visible points within {_PX} px of the truth at 256 x 256, mean"),
        "occlusion_accuracy": Meaning("OA", "%", "how often the visibility flag is right"),
        "always_visible_accuracy": Meaning("always visible", "%", "what OA would be for all points called visible"),
        "median_error": Meaning("median error", "px at 256", "of visible points, in an image of 256 x 256"),
        "survival": Meaning("survival", "%", "share of a track's images before it is lost (50 px off at 256 x 256)"),
        "lost_points": Meaning("lost points", "", "points that were lost at some time"),
        "seconds_to_first_loss": Meaning("time to first loss", "s", "of the points that were lost, median"),
    },
    "steadiness": {
        "static_points": Meaning("static points", "", "points that do not move, by the truth or else by LK"),
        "jitter_step": Meaning("jitter", "px", "of static points: root mean square of the move from image to image"),
        "jitter_spread": Meaning("jitter about mean", "px", "of static points: the same about their own mean position"),
        "visibility_changes": Meaning("flicker", "per 100", "changes of the visibility flag a point in 100 images"),
        "short_runs": Meaning("short flickers", "", "stretches of at most 2 images between two such changes"),
        "visible_share": Meaning("called visible", "%", "of all points in all images after their query"),
        "never_hidden": Meaning("never hidden", "", "points that were called visible throughout"),
        "seconds_to_first_hidden": Meaning("time to first hidden", "s", "of the points called hidden once, median"),
    },
    "forward_backward": {
        "judged": Meaning("judged", "", "points tracked backward over a stretch, visible at both its ends"),
        "not_judged": Meaning("not judged", "", "hidden at one end"),
        "called_hidden": Meaning("called hidden", "", "of those judged, points called hidden where they returned to"),
        "median": Meaning("median error", "px", "of the others: where tracking back arrives, from where the point was"),
        **{f"within_{t:g}": Meaning(f"within {t:g} px", "%", "returned as near as that") for t in THRESHOLDS},
        "moved": Meaning("moved", "px", "median way between both ends: a point that never moves returns for nothing"),
    },
    "lk_agreement": {
        "share_easy": Meaning(
            "easy", "%", "of a point's images, where Lucas-Kanade can be trusted; the rest is not judged"
        ),
        "median": Meaning("median distance", "px", "from Lucas-Kanade there"),
        **{f"within_{t:g}": Meaning(f"within {t:g} px", "%", "as near to it as that") for t in THRESHOLDS},
        "called_visible": Meaning("called visible", "%", "easy points are in view: should be near 100 %"),
    },
    "references": {
        "points": Meaning("points", "", "of pictures that are not part of the recording"),
        "found": Meaning("found", "%", "of them, those called visible in some image"),
        "seconds_to_first_found": Meaning("time to first found", "s", "of those, median"),
        "visible_share": Meaning("called visible", "%", "of all of them in all images"),
        "visibility_changes": Meaning("flicker", "per 100", "changes of the visibility flag a point in 100 images"),
    },
}
TITLES = {
    "ground_truth": "Against ground truth",
    "steadiness": "Steadiness",
    "forward_backward": "Forward and backward",
    "lk_agreement": "Agreement with Lucas-Kanade on easy points",
    "references": "Points of references",
}


def for_json(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """The same with null where there was nothing to measure, to six digits."""
    return {
        section: {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in values.items()}
        for section, values in figures.items()
    }
