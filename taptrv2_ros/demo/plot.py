"""Tracks as a picture: x and y over time, who was seen when, and the error where the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.drawing import point_colours
from taptrv2_core.extras import optional
from taptrv2_ros.demo.recorder import Table
from taptrv2_ros.demo.score import Score

_METHOD_COLOURS = ("#1a6fdf", "#999999", "#d9822b")


def write_plot(path: Path, table: Table, image_size: tuple[int, int], title: str, scores: list[Score]) -> None:
    """Write a PNG. ``image_size`` is (height, width) in pixels; ``scores`` may be empty."""
    optional("matplotlib", "matplotlib", "drawing the track plot")
    # Figures made without pyplot need no display and leave no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 4 if scores else 3
    figure = Figure(figsize=(11, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True)
    figure.suptitle(title, fontsize=12)
    for axis, name, side in ((axes[0], "x", 0), (axes[1], "y", 1)):
        _coordinate(axis, table, side)
        axis.set_ylabel(f"{name} (pixels)")
        low, high = 0, image_size[1 - side]
        axis.set_ylim((low, high) if side == 0 else (high, low))  # y grows downwards, as in the image
    _visibility(axes[2], table)
    if scores:
        _errors(axes[3], table, scores)
    axes[-1].set_xlabel("seconds from the first image")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _coordinate(axis: Any, table: Table, side: int) -> None:
    """Strong where seen, faint where hidden."""
    for column, shade in enumerate(point_colours(table.ids) / 255):
        values = table.xy[:, column, side]
        axis.plot(table.seconds, values, color=shade, alpha=0.25, linewidth=0.8)
        axis.plot(table.seconds, np.where(table.visible[:, column], values, np.nan), color=shade, linewidth=1.4)
    axis.grid(alpha=0.25)
    axis.margins(x=0)


def _visibility(axis: Any, table: Table) -> None:
    points = len(table.ids)
    step = float(np.median(np.diff(table.seconds))) if len(table.seconds) > 1 else 1.0
    extent = (float(table.seconds[0]), float(table.seconds[-1]) + step, points - 0.5, -0.5)
    picture = axis.imshow(
        table.visibility.T, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0, vmax=1, extent=extent
    )
    axis.set_ylabel("point")
    axis.set_xlim(float(table.seconds[0]), float(table.seconds[-1]))
    axis.figure.colorbar(picture, ax=axis, label="visibility", pad=0.01)


def _errors(axis: Any, table: Table, scores: list[Score]) -> None:
    for score, shade in zip(scores, _METHOD_COLOURS, strict=False):
        axis.plot(table.seconds, _median(score.error), color=shade, linewidth=1.8, label=score.name)
    axis.set_ylabel("median error (pixels)")
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=len(scores), borderaxespad=0)


def _median(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every image; NaN where no point could be scored."""
    known = np.isfinite(error).any(axis=1)
    result = np.full(len(error), np.nan)
    result[known] = np.nanmedian(error[known], axis=1)
    return result
