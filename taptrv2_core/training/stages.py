"""The curriculum as data: what is trained, on which clips, for how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum. Learning rates go from ``lr_start`` to ``lr_end`` on a cosine."""

    name: str
    steps: int
    size: tuple[int, int]
    """Height and width of the clips in pixels."""
    frames: int
    points: int
    batch: int
    """Clips a step and process."""
    lr_start: float
    lr_end: float
    speed: tuple[float, float] = (0.5, 3.0)
    """Of the generated clips, see `ClipConfig.speed`; short clips need more to move as far as long ones."""
    provisional: int = 0
    """Provisional windows a step, at random frames; committing windows run anyhow."""
    contrast: float = 0.3
    """Weight of the contrastive loss on memory."""
    search: float = 0.0
    """Weight of the search for lost points; where it is the only loss, nothing else is trained."""
    refine: float = 0.0
    """Weight of the refiner's loss; it does not need the network."""
    tracking: float = 1.0
    """Weight of position and visibility losses; 0 leaves the decoder out."""
    freeze_batch_norm: bool = False

    @property
    def beside(self) -> bool:
        """Whether only what stands beside the network is trained, search or refiner; features stay as they are."""
        return self.contrast == 0 and self.tracking == 0


_KINDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "steps": int, "size": (list, tuple), "frames": int, "points": int, "batch": int,
    "lr_start": (int, float), "lr_end": (int, float), "provisional": int, "contrast": (int, float),
    "search": (int, float), "refine": (int, float),
    "tracking": (int, float), "speed": (list, tuple), "freeze_batch_norm": bool,
}  # fmt: skip


def _stages(rows: Sequence[dict[str, Any]]) -> tuple[Stage, ...]:
    return tuple(
        Stage(**{**row, "size": tuple(row["size"]), "speed": tuple(row.get("speed", (0.5, 3.0)))}) for row in rows
    )


_SEARCH = Stage(
    "search", 800, (256, 256), 6, 80, 2, 1e-3, 1e-5, speed=(1.5, 12), contrast=0.0, tracking=0.0, search=1.0,
    freeze_batch_norm=True,
)  # fmt: skip

_REFINE = Stage(
    "refine", 900, (480, 640), 10, 200, 1, 3e-3, 1e-5, speed=(0.3, 6), contrast=0.0, tracking=0.0, refine=1.0,
    freeze_batch_norm=True,
)  # fmt: skip

CURRICULA: dict[str, tuple[Stage, ...]] = {
    "cpu": (
        Stage("contrast", 300, (128, 128), 3, 64, 12, 1e-3, 1e-3, speed=(3, 20), contrast=1.0, tracking=0.0),
        Stage("small images", 1500, (128, 128), 8, 96, 6, 1e-3, 8e-4, speed=(0.6, 6)),
        Stage("two windows", 1500, (128, 128), 12, 96, 4, 8e-4, 6e-4, speed=(0.5, 4), provisional=1),
        Stage(
            "full size", 1500, (256, 256), 12, 96, 2, 5e-4, 1e-4, provisional=1, contrast=0.2, freeze_batch_norm=True
        ),
        Stage(
            "long clips", 700, (256, 256), 20, 96, 1, 1e-4, 5e-6, provisional=2, contrast=0.2, freeze_batch_norm=True
        ),
        _SEARCH,
        _REFINE,
    ),
    "gpu": (
        Stage("contrast", 1000, (128, 128), 3, 64, 128, 7e-4, 7e-4, speed=(3, 20), contrast=1.0, tracking=0.0),
        Stage("small images", 8000, (128, 128), 8, 96, 64, 7e-4, 5e-4, speed=(0.6, 6), provisional=1),
        Stage("full size", 8000, (256, 256), 12, 128, 32, 5e-4, 3e-4, speed=(0.5, 4), provisional=1),
        Stage("long clips", 8000, (256, 256), 24, 128, 16, 3e-4, 1e-6, provisional=2, contrast=0.2, search=0.1),
        replace(_REFINE, steps=2000, batch=4),
    ),
    "gpu-continue": (
        Stage("full size", 1250, (256, 256), 12, 128, 32, 8e-4, 5e-4, (0.5, 4), 1, contrast=0.2, search=0.1),
        Stage("long clips", 1000, (256, 256), 24, 96, 16, 5e-4, 1e-6, provisional=2, contrast=0.2, search=0.1),
    ),
    "refine": (_REFINE,),
    "published": (Stage("kubric", 200_000, (512, 512), 24, 800, 1, 2e-4, 2e-5, contrast=0.0, freeze_batch_norm=True),),
}
"""``cpu`` and ``gpu`` train the small network from scratch, ``gpu-continue`` trains given weights on, ``refine``
the refiner of given ones alone; ``published`` is the paper's recipe on Kubric."""


def stage_at(stages: Sequence[Stage], step: int) -> tuple[int, int] | None:
    """Which stage a step belongs to and how many steps of it went before; None after the end."""
    for index, stage in enumerate(stages):
        if step < stage.steps:
            return index, step
        step -= stage.steps
    return None


def total_steps(stages: Sequence[Stage]) -> int:
    """Steps of the whole curriculum."""
    return sum(stage.steps for stage in stages)


def load_stages(name: str) -> tuple[Stage, ...]:
    """A curriculum by name, or from a JSON file: a list of objects with the fields of `Stage`.

    Raises:
        ValueError: neither a known name nor a readable file, or a field is missing, unknown or of the wrong kind.
    """
    if name in CURRICULA:
        return CURRICULA[name]
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"stages {name!r}: neither one of {', '.join(CURRICULA)} nor a file")
    try:
        rows = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"stages file {path}: not JSON ({error})") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"stages file {path}: a list of objects is expected, one a stage")
    for number, row in enumerate(rows, 1):
        _check(row, f"stages file {path}, stage {number}")
    return _stages(rows)


def _check(row: dict[str, Any], where: str) -> None:
    required = {f.name for f in fields(Stage) if f.default is MISSING}
    missing, unknown = sorted(required - row.keys()), sorted(row.keys() - _KINDS.keys())
    if missing or unknown:
        raise ValueError(f"{where}: missing fields {missing}, unknown fields {unknown}")
    for name, value in row.items():
        if not isinstance(value, _KINDS[name]) or (isinstance(value, bool) and _KINDS[name] is not bool):
            raise ValueError(f"{where}: {name} is {value!r}")
    if len(row["size"]) != 2 or min(*row["size"], 0 if row["steps"] < 1 else 32) < 32:
        raise ValueError(f"{where}: size is (height, width) of at least 32 pixels, and steps at least 1")
    if min(row["frames"] - 1, row["points"], row["batch"]) < 1:
        raise ValueError(f"{where}: at least 2 frames, 1 point and a batch of 1 are needed")


def as_json(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """The curriculum as plain data, the form `load_stages` reads."""
    return [{**asdict(stage), "size": list(stage.size), "speed": list(stage.speed)} for stage in stages]
