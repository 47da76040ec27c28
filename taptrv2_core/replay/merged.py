"""Results of many recordings together: a table, and a report that links to each recording's own."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from taptrv2_core.replay.figures import MEANINGS, TITLES
from taptrv2_core.replay.many import Result
from taptrv2_core.replay.report import show, template

SHOWN = (
    ("ground_truth", "average_jaccard"),
    ("ground_truth", "delta_avg"),
    ("ground_truth", "occlusion_accuracy"),
    ("ground_truth", "survival"),
    ("forward_backward", "median"),
    ("lk_agreement", "median"),
    ("lk_agreement", "within_4"),
    ("steadiness", "jitter_step"),
    ("steadiness", "visibility_changes"),
    ("references", "found"),
)
"""Columns of the report; the CSV file has all figures."""


def write_summary_csv(path: Path, results: Sequence[Result]) -> None:
    """One row a recording; figures are empty where there are none."""
    names = [(section, name) for section, meanings in MEANINGS.items() for name in meanings]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = ["recording", "status", "reason", "images", "points"]
        writer.writerow([*head, *(f"{section}.{name}" for section, name in names)])
        for result in results:
            outcome = result.outcome
            start = [result.job.out.name, status(result), result.error or (outcome.problem if outcome else "")]
            start += [str(outcome.images), str(outcome.points)] if outcome else ["", ""]
            values = (_figure(result, section, name) for section, name in names)
            writer.writerow([*start, *("" if math.isnan(value) else f"{value:.6g}" for value in values)])


def render_summary(results: Sequence[Result]) -> str:
    """The merged report as HTML; the same results give the same text."""
    columns = [c for c in SHOWN if any(math.isfinite(_figure(result, *c)) for result in results)]
    rows = []
    for result in results:
        outcome = result.outcome
        rows.append(
            {
                "name": result.job.out.name,
                "report": (outcome.folder.relative_to(result.job.out.parent) / "report.html").as_posix()
                if outcome
                else "",
                "status": status(result),
                "reason": result.error or (outcome.problem if outcome else ""),
                "images": str(outcome.images) if outcome else "–",
                "points": str(outcome.points) if outcome else "–",
                "values": [show(*column, _figure(result, *column)) for column in columns],
            }
        )
    return str(
        template("summary.html.j2").render(
            groups=[(TITLES[key], len(list(group))) for key, group in itertools.groupby(columns, lambda c: c[0])],
            columns=[MEANINGS[section][name].label for section, name in columns],
            rows=rows,
            means=[show(*column, mean(results, *column)) for column in columns],
            counted=sum(result.outcome is not None for result in results),
            failed=sum(result.outcome is None for result in results),
        )
    )


def status(result: Result) -> str:
    """ "whole", "partial" or "failed"."""
    if result.outcome is None:
        return "failed"
    return "partial" if result.outcome.problem else "whole"


def mean(results: Sequence[Result], section: str, name: str) -> float:
    """Plain mean over the recordings that have the figure."""
    values = [value for value in (_figure(result, section, name) for result in results) if math.isfinite(value)]
    return math.fsum(values) / len(values) if values else math.nan


def _figure(result: Result, section: str, name: str) -> float:
    figures = result.outcome.figures if result.outcome else {}
    return figures.get(section, {}).get(name, math.nan)
