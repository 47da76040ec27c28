"""Training state on disk: a folder of pieces below 16 MiB each and a manifest with their checksums.

A state is complete or not there: it is written beside its place and renamed. ``ROOT/step-00001200/manifest.json`` lists
``piece-00.bin``, ...; the pieces joined are one file of ``torch.save``, read without running code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from taptrv2_core.errors import CheckpointError

PIECE_BYTES = 15 * 2**20
FORMAT = "taptrv2 training state 1"
KEPT = 2


def save_state(root: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a state under ``root``; older ones than the newest two go. Returns the state's folder."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    place, beside = root / f"step-{step:08d}", root / f"step-{step:08d}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    pieces = []
    for number, first in enumerate(range(0, len(data), PIECE_BYTES)):
        piece = data[first : first + PIECE_BYTES]
        _write(beside / f"piece-{number:02d}.bin", bytes(piece))
        pieces.append({"name": f"piece-{number:02d}.bin", "sha256": hashlib.sha256(piece).hexdigest()})
    _write(beside / "manifest.json", json.dumps({"format": FORMAT, "step": step, "pieces": pieces}, indent=1).encode())
    shutil.rmtree(place, ignore_errors=True)
    os.replace(beside, place)
    for old in _complete(root)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def load_state(path: Path) -> dict[str, Any]:
    """Read a state: the folder of one, or a folder of several, of which the newest is taken.

    Raises:
        CheckpointError: nothing complete there, or a piece is missing or damaged.
    """
    folder = path
    if not (path / "manifest.json").is_file():
        found = _complete(path) or _complete(path / "state")
        if not found:
            raise CheckpointError(f"{path}: no training state there; give the --out folder of an earlier run")
        folder = found[-1]
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest.get("format") != FORMAT:
            raise CheckpointError(f"{folder}: not a training state of this version ({manifest.get('format')!r})")
        buffer = io.BytesIO()
        for piece in manifest["pieces"]:
            data = (folder / piece["name"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != piece["sha256"]:
                raise CheckpointError(f"{folder / piece['name']}: damaged, its checksum differs; take an older state")
            buffer.write(data)
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{folder}: cannot be read as a training state: {error}") from error
    buffer.seek(0)
    return torch.load(buffer, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def _complete(root: Path) -> list[Path]:
    return sorted(p.parent for p in root.glob("step-*/manifest.json") if not p.parent.name.endswith(".tmp"))


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
