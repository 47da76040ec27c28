"""The plots of a report, as SVG: the same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.evaluation.stability import tracked_frames
from taptrv2_core.extras import optional
from taptrv2_core.replay.measures import Judged

Values = NDArray[np.float64]
_BLUE, _ORANGE, _GREY = "#2a6fbb", "#d9731a", "#8a8a8a"
_MOST_TRACKS = 60  # drawn over time; more would hide each other
_SETTINGS = {
    "svg.hashsalt": "taptrv2",  # names of clip paths: random otherwise
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _svg(draw: Callable[[Any], None], height: float = 2.4, rows: int = 1) -> str:
    """What ``draw`` puts on the axes (an array of them if there are several rows), as an SVG element."""
    matplotlib = optional("matplotlib", "matplotlib", "the report")
    figure_module = optional("matplotlib.figure", "matplotlib", "the report")
    with matplotlib.rc_context(_SETTINGS):
        figure = figure_module.Figure(figsize=(5.0, height), layout="constrained")
        draw(figure.subplots(rows, sharex=True))
        text = io.StringIO()
        figure.savefig(text, format="svg", dpi=110, metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _legend(axes: Any) -> None:
    """Above the axes, where it hides no line."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=3, frameon=False, handlelength=1.8)


def visible_plot(judged: Judged) -> str:
    """How many points are tracked, and how many of them are called visible, over time."""
    tracked = judged.tracked.sum(1)

    def draw(axes: Any) -> None:
        axes.fill_between(judged.seconds, tracked, color=_GREY, alpha=0.25, step="post", label="tracked", lw=0)
        axes.step(judged.seconds, judged.visible.sum(1), color=_BLUE, where="post", label="called visible")
        if judged.truth is not None:
            asked = tracked_frames(len(judged.xy), judged.query_frame)
            seen = (asked & judged.truth.visible & judged.truth.annotated).sum(1)
            axes.step(judged.seconds, seen, color=_ORANGE, where="post", label="truly visible", lw=1)
        axes.set(xlabel="seconds", ylabel="points", ylim=(0, None))
        _legend(axes)

    return _svg(draw)


def tracks_plot(judged: Judged) -> str:
    """x and y over time, faint where hidden."""
    shown = np.unique(np.linspace(0, len(judged.ids) - 1, min(_MOST_TRACKS, len(judged.ids))).round().astype(int))

    def draw(both: Any) -> None:
        from taptrv2_core.drawing import point_colours

        colours = point_colours(judged.ids) / 255.0
        for axes, part, name in zip(both, range(2), "xy", strict=True):
            for i in shown:
                line = np.where(judged.tracked[:, i], judged.xy[:, i, part], np.nan)
                seen = np.where(judged.visible[:, i], line, np.nan)
                axes.plot(judged.seconds, line, color=colours[i], lw=0.5, alpha=0.35, rasterized=True)
                axes.plot(judged.seconds, seen, color=colours[i], lw=1.0, rasterized=True)
            axes.set(ylabel=f"{name}, px", ylim=(0, judged.frame_size[1 - part]))
        both[1].invert_yaxis()
        both[1].set_xlabel("seconds")

    return _svg(draw, 4.0, 2)


def error_plot(judged: Judged) -> str:
    """Distance from the truth over time, of truly visible points."""
    errors = judged.errors_at_256()
    known = np.isfinite(errors).any(1)

    def draw(axes: Any) -> None:
        for share, style, name in ((50, "-", "median"), (90, "--", "90 % are below")):
            line = np.full(len(errors), np.nan)
            line[known] = np.nanpercentile(errors[known], share, axis=1)
            axes.plot(judged.seconds, line, style, color=_BLUE, label=name)
        axes.set(xlabel="seconds", ylabel="px at 256 x 256", ylim=(0, None))
        _legend(axes)

    return _svg(draw)


def lasting_plot(judged: Judged) -> str:
    """Share of the points that were not yet lost, and not yet called hidden, against the time since their query."""

    def draw(axes: Any) -> None:
        times = np.linspace(0, max(float(judged.seconds[-1]), 1e-9), 200, dtype=np.float64)
        begin = judged.seconds[judged.query_frame]
        for when, last, colour, name in _endings(judged):
            line = _lasting(when, judged.seconds[last] - begin, times)
            axes.step(times, line, color=colour, where="post", label=name)
        axes.set(xlabel="seconds since the query", ylabel="share of points", ylim=(-0.02, 1.02))
        _legend(axes)

    return _svg(draw)


def _endings(judged: Judged) -> list[tuple[Values, Any, str, str]]:
    """When the event came, the last image in which it could, colour and name of the line."""
    endings: list[tuple[Values, Any, str, str]] = [
        (judged.hidden_seconds(), judged.end - 1, _BLUE, "not yet called hidden")
    ]
    if judged.truth is not None:
        endings.append((judged.loss_seconds(), -1, _ORANGE, "not yet lost"))
    return endings


def _lasting(when: Values, length: Values, times: Values) -> Values:
    """Of the points that were watched for that long, the share without the event; NaN beyond the longest."""
    watched = length[None] >= times[:, None]
    without = watched & (when[None] > times[:, None])
    total = watched.sum(1)
    return np.where(total > 0, without.sum(1) / np.maximum(total, 1), np.nan)


def distances_plot(named: dict[str, Values], unit: str = "px") -> str:
    """Share of distances below each value, one line a name; infinite ones are never reached."""

    def draw(axes: Any) -> None:
        for (name, values), colour in zip(named.items(), (_BLUE, _ORANGE), strict=False):
            ordered = np.sort(values)
            axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), color=colour, where="post", label=name)
        axes.set(xscale="log", xlim=(0.03, 100), xlabel=unit, ylabel="share below", ylim=(0, 1.02))
        axes.xaxis.set_major_formatter("{x:g}")
        _legend(axes)

    return _svg(draw)


def latency_plot(milliseconds: Values) -> str:
    """Time of each image."""

    def draw(axes: Any) -> None:
        axes.plot(np.arange(len(milliseconds)), milliseconds, ".", ms=2.5, color=_BLUE, rasterized=True)
        axes.set(xlabel="image", ylabel="ms", ylim=(0, None))

    return _svg(draw)
