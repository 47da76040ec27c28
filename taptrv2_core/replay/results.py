"""The files of figures of one recording."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from taptrv2_core.model import Taptr
from taptrv2_core.recordings import Recording
from taptrv2_core.replay.figures import for_json
from taptrv2_core.replay.job import Job, Outcome
from taptrv2_core.replay.measures import Judged, PointFigures, measure, point_figures
from taptrv2_core.replay.report import ReportContent, render_report
from taptrv2_core.replay.run import Replay
from taptrv2_core.replay.snapshots import draw_tracks, jpeg

FILES = ("metrics.json", "points.csv", "report.html", "timing.json")
"""Beside those of tracks. All but the last have the same bytes on every run."""
PERCENTILES = (50, 90, 95, 99)
_PICTURES = 4  # in the report


def write_results(
    folder: Path, job: Job, recording: Recording, model: Taptr, replay: Replay, judged: Judged, notes: Sequence[str]
) -> Outcome:
    """Measure and write ``FILES`` into a folder that is there."""
    figures, points = measure(judged, replay.forward_backward), point_figures(judged)
    milliseconds = np.array(replay.milliseconds)
    about = _about(job, recording, model, replay, judged)
    content = ReportContent(
        title=recording.name + (" (partial)" if replay.problem else ""),
        facts=_facts(about, recording, judged),
        warnings=[*([f"Partial results: {replay.problem}"] if replay.problem else []), *notes],
        figures=figures,
        judged=judged,
        points=points,
        pictures=[
            (f"image {replay.numbers[i]}, {judged.seconds[i]:.2f} s", jpeg(draw_tracks(i, image, judged)))
            for i, image in replay.snapshots.pick(_PICTURES)
        ],
        returned=replay.returned,
        latency=milliseconds if job.timing_in_report else np.zeros(0),
    )
    latency = {f"p{share}": float(np.percentile(milliseconds, share)) for share in PERCENTILES}
    latency |= {"mean": float(milliseconds.mean()), "max": float(milliseconds.max())}
    latency = {name: round(value, 3) for name, value in latency.items()}
    _write_json(folder / "metrics.json", {**about, "notes": list(notes), "figures": for_json(figures)})
    _write_json(folder / "timing.json", {"recording": recording.name, "milliseconds": latency})
    _write_points(folder / "points.csv", points)
    (folder / "report.html").write_text(render_report(content), encoding="utf-8")
    return Outcome(
        recording.name, folder, len(replay.tracks), len(judged.ids), figures, replay.problem, replay.interrupted,
        tuple(notes), latency,
    )  # fmt: skip


def _about(job: Job, recording: Recording, model: Taptr, replay: Replay, judged: Judged) -> dict[str, Any]:
    return {
        "recording": recording.name,
        "topic": recording.topic,
        "images": len(replay.tracks),
        "points": len(judged.ids),
        "complete": not replay.problem,
        "problem": replay.problem or None,
        "weights": Path(job.weights).name,
        "device": model.device.type,
        "input_size": f"{model.config.input_size[1]} x {model.config.input_size[0]}",
        "dtype": str(model.dtype).removeprefix("torch."),
        "takeover_interval": job.takeover_interval,
        "max_gap": job.max_gap,
        "resets": replay.resets,
    }


def _facts(about: dict[str, Any], recording: Recording, judged: Judged) -> list[tuple[str, str]]:
    height, width = judged.frame_size
    return [
        ("recording", f"{about['recording']}: {recording.description}"),
        ("images", f"{about['images']} of {width} x {height}, {judged.seconds[-1]:.2f} s"),
        ("points", str(about["points"])),
        ("network", f"{about['weights']} at {about['input_size']}, {about['dtype']} on {about['device']}"),
    ]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_points(path: Path, points: list[PointFigures]) -> None:
    """One row a point; empty where it never happened or is not known."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([f.name for f in fields(PointFigures)])
        for point in points:
            values = asdict(point).values()
            writer.writerow(["" if isinstance(v, float) and not math.isfinite(v) else _cell(v) for v in values])


def _cell(value: float | int) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
