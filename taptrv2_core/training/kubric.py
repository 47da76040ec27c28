"""Kubric clips as CoTracker prepares them: a folder a clip, frames as pictures, tracks as a NumPy file.

``ROOT/<name>/frames/*.png`` (or .jpg), in the order of their names, and ``ROOT/<name>/<name>.npy``: a dict of
``coords`` (N, T, 2), x, y in pixels, and ``visibility`` (N, T). There, as in CoTracker's loader, 1 means hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.synthetic import Clips
from taptrv2_core.training.data import HELD_OUT_SEED, RANK_STRIDE
from taptrv2_core.training.stages import Stage

PICTURES = (".png", ".jpg", ".jpeg")
HELD_OUT_SHARE = 0.02


class KubricSource:
    """Clips from disk, resized to the stage's size; each step draws its own clips, frames and points.

    The last 2 % of the folders in the order of their names (at least one) are held out.

    Args:
        root: the folder of clips.
        seed, rank: decide which clips each step of each process draws.

    Raises:
        ValueError: there are fewer than two clips.
    """

    def __init__(self, root: Path, seed: int, device: torch.device, rank: int = 0) -> None:
        folders = sorted(p.parent for p in root.glob("*/*.npy") if p.stem == p.parent.name) if root.is_dir() else []
        if len(folders) < 2:
            raise ValueError(
                f"kubric data {root}: {len(folders)} clips found, at least 2 are needed; a clip is a folder NAME with "
                "frames/*.png and NAME.npy"
            )
        held = max(1, round(HELD_OUT_SHARE * len(folders)))
        self.train, self.held = folders[:-held], folders[-held:]
        self.seed = seed + RANK_STRIDE * rank
        self.device = device

    def batch(self, step: int, stage: Stage) -> Clips:
        """See `ClipSource.batch`."""
        random = np.random.default_rng((self.seed, step))
        rows = random.integers(len(self.train), size=stage.batch)
        return self._clips([self.train[row] for row in rows], stage.frames, stage, random)

    def held_out(self, stage: Stage, clips: int, frames: int) -> Clips:
        """See `ClipSource.held_out`."""
        random = np.random.default_rng(HELD_OUT_SEED)
        shortest = min(_tracks(folder)[0].shape[1] for folder in self.held[:clips])
        return self._clips(self.held[:clips], min(frames, shortest), stage, random)

    def _clips(self, folders: list[Path], frames: int, stage: Stage, random: np.random.Generator) -> Clips:
        rows = [_clip(folder, frames, stage, random) for folder in folders]
        columns = [torch.stack(column).to(self.device) for column in zip(*rows, strict=True)]
        return Clips(*columns)


def _clip(folder: Path, frames: int, stage: Stage, random: np.random.Generator) -> tuple[Tensor, ...]:
    """video (T, 3, H, W), xy (T, N, 2), visible (T, N), inside (T, N), query_frame (N,)."""
    coords, hidden = _tracks(folder)
    paths = sorted(p for p in (folder / "frames").glob("*") if p.suffix.lower() in PICTURES)
    if len(paths) != coords.shape[1] or len(paths) < frames:
        raise ValueError(
            f"{folder}: {len(paths)} pictures and tracks of {coords.shape[1]} frames; they must agree, "
            f"and the stage needs {frames}"
        )
    first = int(random.integers(len(paths) - frames + 1))
    height, width = stage.size
    pictures, original = _pictures(paths[first : first + frames], height, width)
    scale = np.array([width / original[1], height / original[0]])
    xy = (coords[:, first : first + frames].transpose(1, 0, 2) + 0.5) * scale - 0.5
    inside = ((xy >= -0.5) & (xy < np.array([width, height]) - 0.5)).all(-1)
    visible = ~hidden[:, first : first + frames].T & inside
    chosen = _choose(visible, stage.points, random, folder)
    start = np.array([random.choice(np.flatnonzero(visible[:, point])) for point in chosen])
    video = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return (
        video, torch.from_numpy(xy[:, chosen]).float(), torch.from_numpy(visible[:, chosen]),
        torch.from_numpy(inside[:, chosen]), torch.from_numpy(start),
    )  # fmt: skip


def _choose(visible: NDArray[np.bool_], points: int, random: np.random.Generator, folder: Path) -> NDArray[np.int64]:
    """Rows of points that are seen at least once; drawn again where there are too few."""
    seen = np.flatnonzero(visible.any(0))
    if len(seen) == 0:
        raise ValueError(f"{folder}: no track is visible in the frames drawn")
    return random.choice(seen, points, replace=len(seen) < points)


def _pictures(paths: list[Path], height: int, width: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """(T, height, width, 3) RGB, and the pictures' own (height, width)."""
    resized = []
    size = (0, 0)
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"{path}: not a readable picture")
        size = (picture.shape[0], picture.shape[1])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        resized.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return np.stack(resized).astype(np.uint8), size


def _tracks(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """coords (N, T, 2) and hidden (N, T)."""
    path = folder / f"{folder.name}.npy"
    try:
        # CoTracker's files are pickled dicts: only load data you trust.
        content: dict[str, Any] = np.load(path, allow_pickle=True).item()
        coords = np.asarray(content["coords"], dtype=np.float64)
        hidden = np.asarray(content["visibility"]).astype(bool)
    except (OSError, ValueError, KeyError, AttributeError, EOFError) as error:
        raise ValueError(f"{path}: not a dict of 'coords' and 'visibility' ({error})") from error
    if coords.ndim != 3 or coords.shape[2] != 2 or hidden.shape != coords.shape[:2]:
        raise ValueError(f"{path}: coords {coords.shape} and visibility {hidden.shape}; (N, T, 2) and (N, T) expected")
    return coords, hidden
