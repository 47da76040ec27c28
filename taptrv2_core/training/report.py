"""What a training run tells: a progress bar, a log of one JSON object a line, a plot."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from taptrv2_core.progress import bar_class


class Progress:
    """tqdm where it is installed and a terminal looks on, plain lines otherwise."""

    LINE_EVERY = 15.0

    def __init__(self, total: int, done: int, quiet: bool = False) -> None:
        self.total, self.done, self.first, self.quiet = total, done, done, quiet
        self._began = self._printed = time.monotonic()
        self._bar: Any = None
        if not quiet and sys.stderr.isatty():
            tqdm = bar_class()
            if tqdm is not None:
                self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def step(self, text: str, minutes_left: float | None) -> None:
        """One step is done; ``text`` is what to show of it."""
        self.done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        elif not self.quiet and time.monotonic() - self._printed > self.LINE_EVERY:
            self._printed = time.monotonic()
            print(f"step {self.done}/{self.total}  {text}  {self._eta(minutes_left)}", flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._bar is not None:
            self._bar.write(text)
        elif not self.quiet:
            print(text, flush=True)

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()

    def _eta(self, minutes_left: float | None) -> str:
        each = (time.monotonic() - self._began) / max(self.done - self.first, 1)
        left = each * (self.total - self.done) / 60
        text = f"{each:.2f} s/step, curriculum ends in {left:.0f} min"
        return text if minutes_left is None else f"{text}, time is up in {minutes_left:.0f} min"


LOSSES = ("loss", "contrast", "moved", "visibility", "search", "refine")


class Log:
    """Appends JSON lines; each has "step" and "minutes" of training so far."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, row: dict[str, Any]) -> None:
        """One line."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; where a run was resumed from an older state, later rows replace earlier of the same step."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows[(row["kind"], row["step"])] = row
    return sorted(rows.values(), key=lambda row: row["step"])


def scale(rows: list[dict[str, Any]]) -> str:
    """Of the losses' axis; the refiner's, a likelihood, may be negative."""
    return "log" if all(row[name] > 0 for row in rows for name in LOSSES if name in row) else "linear"


def plot(log: Path, image: Path) -> bool:
    """Loss and held-out accuracy against minutes as a picture; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_log(log)
    train = [row for row in rows if row["kind"] == "train"]
    held = [row for row in rows if row["kind"] == "held-out"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for name in LOSSES:
        chosen = [row for row in train if name in row]
        if chosen:
            left.plot([row["minutes"] for row in chosen], [row[name] for row in chosen], label=name, linewidth=0.8)
    left.set(xlabel="minutes", yscale=scale(train), title="training")
    for name in ("delta_avg", "within_1", "occlusion_accuracy", "always_visible"):
        right.plot([row["minutes"] for row in held], [row[name] for row in held], label=name)
    right.set(xlabel="minutes", ylim=(0, 1), title="held out, streaming answer")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend()
    figure.tight_layout()
    figure.savefig(image, dpi=110)
    pyplot.close(figure)
    return True
