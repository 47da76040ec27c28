"""Results as text tables, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taptrv2_core.evaluation.breakdown import GROUPS
from taptrv2_core.evaluation.metrics import METRIC_NAMES
from taptrv2_core.evaluation.runner import MethodResults

_COLUMNS = {
    "AJ": "average_jaccard",
    "delta_avg": "delta_avg",
    "OA": "occlusion_accuracy",
    "always visible": "always_visible_accuracy",
    "< 1 px": "within_1",
    "median px": "median_error",
    "survival": "survival",
}


def metrics_table(results: Sequence[MethodResults]) -> str:
    """One row a method: mean over videos, and frames a second."""
    rows = [["method", *_COLUMNS, "frames/s"]]
    for result in results:
        mean = result.mean
        cells = [_share(getattr(mean, name), 2 if name == "median_error" else 3) for name in _COLUMNS.values()]
        rows.append([result.name, *cells, _rate(result.frames_per_second)])
    return _table(rows)


PUBLISHED_RESULTS = {
    ("TAP-Vid DAVIS", "first"): (63.5, 75.9, 91.4),
    ("TAP-Vid DAVIS", "strided"): (66.4, 78.8, 91.3),
    ("TAP-Vid Kinetics", "first"): (49.7, 64.2, 85.7),
    ("TAP-Vid RGB-Stacking", "first"): (53.4, 70.5, 81.2),
    ("RoboTAP", "first"): (60.9, 74.6, 87.7),
}
"""AJ, delta_avg and OA in percent of the published TAPTRv2, by dataset and queries (Li et al., arXiv 2407.16291)."""


def paper_table(results: Sequence[MethodResults], dataset: str, queries: str) -> str:
    """The table as papers print it: three figures in percent, and the paper's own row where there is one."""
    names = ("average_jaccard", "delta_avg", "occlusion_accuracy")
    figures = {result.name: tuple(100 * getattr(result.mean, name) for name in names) for result in results}
    published = PUBLISHED_RESULTS.get((dataset, queries))
    if published is not None:
        figures["TAPTRv2, as published"] = published
    rows = [[f"{dataset}, {queries}", "AJ", "<delta_avg", "OA"]]
    rows += [[name, *(_share(value, 1) for value in values)] for name, values in figures.items()]
    return _table(rows)


def breakdown_table(results: Sequence[MethodResults]) -> str:
    """delta_avg of each group of points, then how often the visibility flag is right in it; pooled over all videos."""
    counts = results[0].groups
    groups = [group for group in GROUPS if counts[group].flags]
    lines = []
    for title, key, count in (("delta_avg", "delta_avg", "positions"), ("visibility right", "flag_accuracy", "flags")):
        shown = [group for group in groups if getattr(counts[group], count)]
        rows = [[title, *shown]]
        rows += [[r.name, *(_share(r.groups[group].shares()[key]) for group in shown)] for r in results]
        rows.append(["points x frames", *(f"{getattr(counts[group], count)}" for group in shown)])
        lines.append(_table(rows))
    return "\n\n".join(lines)


def write_csv(path: Path, results: Sequence[MethodResults]) -> None:
    """One row a video and method; shares in [0, 1], empty where there was nothing to score."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "method", *METRIC_NAMES])
        for result in results:
            for video, metrics in result.videos:
                values = (getattr(metrics, name) for name in METRIC_NAMES)
                writer.writerow([video, result.name, *("" if math.isnan(v) else f"{v:.6g}" for v in values)])


def as_dict(results: Sequence[MethodResults]) -> dict[str, Any]:
    """Means and groups of each method by its name, ready for JSON (null where there was nothing to score)."""
    return {
        result.name: {
            **{name: _null(getattr(result.mean, name)) for name in METRIC_NAMES},
            "frames_per_second": _null(result.frames_per_second),
            "groups": {
                name: {key: _null(value) for key, value in tally.shares().items()}
                for name, tally in result.groups.items()
            },
        }
        for result in results
    }


def write_json(path: Path, about: Mapping[str, Any], results: Sequence[MethodResults]) -> None:
    """``about`` (dataset, queries, model, ...) beside ``methods``, see ``as_dict``."""
    path.write_text(json.dumps({**about, "methods": as_dict(results)}, indent=2) + "\n")


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _rate(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 1e5 else "> 1e5"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right, a line under the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
