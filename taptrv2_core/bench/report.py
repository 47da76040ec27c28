"""The benchmark's results as Markdown tables and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taptrv2_core.bench.parts import PARTS

TIMES = ("p50", "p90", "p99")


def text(result: dict[str, Any]) -> str:
    """All tables."""
    about = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    blocks = [about, ", ".join(f"{key} {value}" for key, value in result["settings"].items())]
    if result["steps"]:
        blocks += ["Image in host memory to tracks in host memory, milliseconds a frame:", _steps(result["steps"])]
    with_parts = [row for row in result["steps"] if row.get("parts")]
    if with_parts:
        blocks += ["Parts of a step, median milliseconds:", _parts(with_parts)]
    if any(row.get("parts") == {} for row in result["steps"]):
        blocks += ["No parts of steps that are CUDA graphs; TAPTRV2_CUDA_GRAPHS=0 runs them without."]
    if result["offline"]:
        blocks += ["From a recording to files, images a second:", _offline(result["offline"])]
    if result["ops"]:
        blocks += ["The ops alone, milliseconds a call:", _ops(result["ops"])]
    return "\n\n".join(blocks)


def write_json(path: Path, result: dict[str, Any]) -> None:
    """The result as it is; times in milliseconds."""
    path.write_text(json.dumps(result, indent=2) + "\n")


def _steps(rows: Sequence[dict[str, Any]]) -> str:
    device = any("peak device MiB" in row for row in rows)
    head = ["", "ops", "dtype", "points", "frames", *TIMES, "frames/s", "committing p50", "peak MiB"]
    table = [[*head, *(["device MiB"] if device else [])]]
    for row in rows:
        cells = [row["name"], row["ops"], row["dtype"], str(row["points"]), str(row["frames"])]
        cells += [_ms(row[name]) for name in TIMES]
        cells += [f"{1e3 / row['p50']:.1f}", _ms(row["commit p50"]), _whole(row["peak MiB"])]
        table.append([*cells, *([_whole(row.get("peak device MiB"))] if device else [])])
    return _table(table, 3)


def _parts(rows: Sequence[dict[str, Any]]) -> str:
    table = [["", "ops", "dtype", "points", *PARTS]]
    for row in rows:
        table.append(
            [row["name"], row["ops"], row["dtype"], str(row["points"]), *(_ms(v) for v in row["parts"].values())]
        )
    return _table(table, 3)


def _ops(rows: Sequence[dict[str, Any]]) -> str:
    table = [["op", "dtype", "ops", *TIMES, "against plain"]]
    plain = {(row["op"], row["dtype"]): row["p50"] for row in rows if row["ops"] == "reference"}
    for row in rows:
        base = plain.get((row["op"], row["dtype"]))
        gain = f"{base / row['p50']:.1f} x" if base else ""
        table.append([row["op"], row["dtype"], row["ops"], *(_ms(row[name]) for name in TIMES), gain])
    return _table(table, 3)


def _offline(rows: Sequence[dict[str, Any]]) -> str:
    table = [["", "images/s", "below the tracker", "each run"]]
    for row in rows:
        below = "" if row["below"] == 0 else f"{100 * row['below']:.0f} %"
        table.append([row["name"], f"{row['images/s']:.1f}", below, " ".join(f"{rate:.1f}" for rate in row["runs"])])
    return _table(table, 1)


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _table(rows: Sequence[Sequence[str]], words: int) -> str:
    """A Markdown table; the first ``words`` columns to the left, numbers to the right."""
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    rule = ["-" * w if i < words else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = []
    for row in (rows[0], rule, *rows[1:]):
        cells = [
            cell.ljust(w) if i < words else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
