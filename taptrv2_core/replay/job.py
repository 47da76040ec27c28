"""What is to be evaluated, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from taptrv2_core.replay.figures import Figures
from taptrv2_core.stamps import MAX_GAP


@dataclass(frozen=True)
class Job:
    """What is to be evaluated, and how.

    Attributes:
        input: bag, video or folder of images.
        out: folder of results, made if it is not there; partial ones lie in ``partial`` inside it.
        topic: of the images, where a bag has several.
        queries: file of points; None: those of the truth, or of ``grid``, or corners.
        references: files of pictures whose points are looked for, beside those.
        truth: file of true tracks of the same points in the same order.
        grid: N x N points in the first image, 0 for none.
        corners: so many corners of the first image, if nothing else, references included, says which points.
        weights, device, dtype, input_size: as for ``load_model``.
        threads: CPU threads; 0: PyTorch's choice. Results may differ in the last digits between numbers of threads.
        takeover_interval: as for ``Tracker``.
        max_gap: seconds between two images after which tracking starts anew, the node's parameter; 0: no gap does.
        stretch: images of a forward-backward check; 0: none is made.
        images: at most so many.
        table: "csv" or "parquet".
        timing_in_report: then the report differs from run to run.
    """

    input: Path
    out: Path
    topic: str | None = None
    queries: Path | None = None
    references: tuple[Path, ...] = ()
    truth: Path | None = None
    grid: int = 0
    corners: int = 64
    weights: str = "small"
    device: str = "auto"
    dtype: str = "float32"
    input_size: tuple[int, int] | None = None
    threads: int = 0
    takeover_interval: int = 1
    max_gap: float = MAX_GAP
    stretch: int = 24
    images: int | None = None
    table: str = "csv"
    timing_in_report: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a recording; files of results are in ``folder``."""

    name: str
    folder: Path
    images: int
    """Tracked."""
    points: int
    figures: Figures
    problem: str = ""
    """Why the recording was not tracked to its end, or no point in it; empty if all is well."""
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    """What else the reader has to know: images left out, queries not asked."""
    latency: dict[str, float] = field(default_factory=dict)
    """Milliseconds of an image, by percentile; of this run alone."""

    def moved(self, folder: Path) -> Outcome:
        """The same with its files elsewhere."""
        return replace(self, folder=folder)
