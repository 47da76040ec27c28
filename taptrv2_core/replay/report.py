"""The report of one recording: one HTML file with everything in it, for any browser, without a network."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.extras import optional
from taptrv2_core.replay import plots
from taptrv2_core.replay.figures import MEANINGS, TITLES, Figures
from taptrv2_core.replay.measures import Judged, PointFigures

_WORST = 20  # points in the table


@dataclass(frozen=True)
class ReportContent:
    """What a report is made from.

    Attributes:
        title: the recording's name.
        facts: name and value of what was tracked and how.
        warnings: what the reader has to know first: a truncated recording, images left out.
        figures: see ``MEANINGS``.
        judged: the tracks; None if there are none.
        points: figures of each point.
        pictures: caption and JPEG file.
        returned: forward-backward errors in pixels, infinite where the point was called hidden.
        latency: milliseconds of each image; empty to leave timing out, which is different on every run.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    figures: Figures
    judged: Judged | None
    points: Sequence[PointFigures]
    pictures: Sequence[tuple[str, bytes]]
    returned: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    latency: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def render_report(content: ReportContent) -> str:
    """The HTML text. The same content gives the same text."""
    return template("report.html.j2").render(
        title=content.title,
        facts=content.facts,
        warnings=content.warnings,
        sections=sections(content.figures),
        plots=_plots(content),
        pictures=[(caption, base64.b64encode(image).decode()) for caption, image in content.pictures],
        worst=_worst(content),
        points=len(content.points),
        with_truth=content.judged is not None and content.judged.truth is not None,
    )


def template(name: str) -> Any:
    """One of the templates beside this file; what is filled in is escaped."""
    jinja2 = optional("jinja2", "jinja2", "the report")
    loader = jinja2.PackageLoader("taptrv2_core.replay", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)


def sections(figures: Figures) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Title and rows (label, value with unit, meaning) of each section there are figures for."""
    found = []
    for section, values in figures.items():
        meanings = MEANINGS[section]
        rows = [(meanings[k].label, show(section, k, value), meanings[k].text) for k, value in values.items()]
        found.append((TITLES[section], rows))
    return found


def show(section: str, name: str, value: float) -> str:
    """A figure for people, with its unit."""
    if not math.isfinite(value):
        return "–"
    unit = MEANINGS[section][name].unit
    if unit == "%":
        return f"{100 * value:.1f} %"
    if not unit:
        return f"{value:.0f}"
    return f"{value:.2f} {unit}"


def _plots(content: ReportContent) -> list[tuple[str, str]]:
    """Title and SVG of each plot that there is something for."""
    found: list[tuple[str, str]] = []
    judged = content.judged
    if judged is not None and len(judged.ids) and len(judged.xy) > 1:
        found.append(("Points over time", plots.visible_plot(judged)))
        if judged.truth is not None:
            found.append(("Error over time, truly visible points", plots.error_plot(judged)))
        if not judged.reference.all():
            found.append(("How long points last", plots.lasting_plot(judged.of(~judged.reference))))
        distances = _distances(content, judged)
        if distances:
            found.append(("Second opinions: how far off", plots.distances_plot(distances)))
        found.append(("Positions (faint where called hidden)", plots.tracks_plot(judged)))
    if content.latency.size:
        found.append(("Time of each image", plots.latency_plot(content.latency)))
    return found


def _distances(content: ReportContent, judged: Judged) -> dict[str, NDArray[np.float64]]:
    distance = np.linalg.norm(judged.xy.astype(np.float64) - judged.easy_xy, axis=-1)
    easy = distance[judged.after_query & np.isfinite(distance)]
    named = {"from LK, easy points": easy, "forward and backward": content.returned}
    return {name: values for name, values in named.items() if values.size}


def _worst(content: ReportContent) -> list[list[str]]:
    """Rows of the points that did worst: by their error, or by how much they are hidden."""

    def badness(point: PointFigures) -> tuple[float, float, int]:
        error = point.median_error if math.isfinite(point.median_error) else -1.0
        return (-error, point.visible_share if math.isfinite(point.visible_share) else 2.0, point.id)

    rows = []
    for point in sorted(content.points, key=badness)[:_WORST]:
        share = f"{100 * point.visible_share:.0f} %" if math.isfinite(point.visible_share) else "–"
        numbers = (point.seconds_to_hidden, point.lk_median_distance, point.median_error, point.seconds_to_loss)
        shown = (f"{value:.2f}" if math.isfinite(value) else "–" for value in numbers)
        begin = "reference" if point.query_frame < 0 else str(point.query_frame)
        rows.append([str(point.id), begin, share, *shown])
    return rows
