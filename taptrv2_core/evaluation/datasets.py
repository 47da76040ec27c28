"""Datasets with ground truth: TAP-Vid's pickles, a folder of frames, and generated clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from taptrv2_core.evaluation.metrics import METRIC_SIZE, QueryMode
from taptrv2_core.evaluation.pickles import DatasetError, load_arrays
from taptrv2_core.evaluation.samples import Sample, make_sample, resize_video
from taptrv2_core.evaluation.tracking import Video


@dataclass(frozen=True)
class Dataset:
    """Samples one after another, so that only one shard of videos is in memory at a time."""

    name: str
    videos: int
    """How many samples there will be; an estimate until the last shard is read."""
    samples: Iterable[Sample]


@dataclass(frozen=True)
class TapVidSource:
    """Where one of TAP-Vid's datasets comes from and what its files are called."""

    title: str
    pattern: str
    """Name of the file, or of the shards, in the dataset's folder."""
    where: str


_PAGE = "https://github.com/google-deepmind/tapnet/tree/main/tapnet/tapvid"
TAPVID = {
    "davis": TapVidSource(
        "TAP-Vid DAVIS", "tapvid_davis.pkl", "https://storage.googleapis.com/dm-tapnet/tapvid_davis.zip"
    ),
    "kinetics": TapVidSource(
        "TAP-Vid Kinetics", "*_of_*.pkl",
        f"https://storage.googleapis.com/dm-tapnet/tapvid_kinetics.zip (labels; {_PAGE} says how to add the videos)",
    ),
    "rgb-stacking": TapVidSource(
        "TAP-Vid RGB-Stacking", "tapvid_rgb_stacking.pkl",
        "https://storage.googleapis.com/dm-tapnet/tapvid_rgb_stacking.zip",
    ),
    "robotap": TapVidSource(
        "RoboTAP", "robotap_split*.pkl", "https://storage.googleapis.com/dm-tapnet/robotap/robotap.zip"
    ),
}  # fmt: skip
"""TAP-Vid's datasets by the name that ``taptr evaluate`` knows them by."""


def open_dataset(name: str, path: Path, query_mode: QueryMode = "first", resize: bool = False) -> Dataset:
    """A dataset by its name.

    Args:
        name: a key of ``TAPVID``, or "house".
        path: the pickle, or the folder with the pickles or with ``frames/`` and ``gt_tracks.npz``.
        query_mode: "first" or "strided".
        resize: frames to 256 x 256 first, as TAP-Vid's protocol has it; otherwise they stay as they are.

    Raises:
        DatasetError: nothing there (the message says where to get it), or files of another form.
    """
    if name == "house":
        sample = load_frames_folder(path, query_mode, resize)
        return Dataset(sample.name, 1, [sample])
    if name not in TAPVID:
        raise DatasetError(f"dataset {name!r} is not known; known are house, {', '.join(TAPVID)}")
    files = _tapvid_files(name, path)
    shards = _Shards(files, query_mode, resize)
    return Dataset(TAPVID[name].title, shards.estimate, shards)


def where_to_get(name: str) -> str:
    """A sentence that says where a dataset's files come from, by its name."""
    if name in TAPVID:
        return f"Get it from {TAPVID[name].where}, unpack it and give its folder"
    return "It is a folder of frames/*.png and gt_tracks.npz that you labelled"


def _tapvid_files(name: str, path: Path) -> list[Path]:
    source = TAPVID[name]
    files = [path] if path.is_file() else sorted(path.glob(source.pattern)) or sorted(path.glob(f"*/{source.pattern}"))
    if not files:
        what = f"has no {source.pattern}" if path.is_dir() else "does not exist"
        raise DatasetError(f"{source.title}: {path} {what}. {where_to_get(name)}")
    return files


class _Shards:
    """Pickle files, read one at a time and let go of after use; the first is read at once, for the estimate."""

    def __init__(self, files: Sequence[Path], query_mode: QueryMode, resize: bool) -> None:
        self.files = files
        self.query_mode = query_mode
        self.resize = resize
        self._first: list[tuple[str, Any]] | None = _entries(files[0])
        self.estimate = len(self._first) * len(files)
        """Videos in all files, if each holds as many as the first."""

    def __iter__(self) -> Iterator[Sample]:
        for path in self.files:
            entries, self._first = self._first or _entries(path), None
            for name, entry in entries:
                yield _tapvid_sample(f"{path}: {name}", name, entry, self.query_mode, self.resize)


def _entries(path: Path) -> list[tuple[str, Any]]:
    """(name, entry) of each video of a pickle: a dict of videos, or a list."""
    data = load_arrays(path)
    if isinstance(data, dict):
        entries = [(str(name), entry) for name, entry in data.items()]
    elif isinstance(data, (list, tuple)):
        entries = [(f"{path.stem}/{i:03d}", entry) for i, entry in enumerate(data)]
    else:
        raise DatasetError(f"{path}: holds a {type(data).__name__}; TAP-Vid's files hold a dict or a list of videos")
    if not entries:
        raise DatasetError(f"{path}: holds no videos")
    return entries


def _tapvid_sample(where: str, name: str, entry: Any, query_mode: QueryMode, resize: bool) -> Sample:
    """One video of a pickle: video, points (N, T, 2) in [0, 1] and occluded (N, T)."""
    if not isinstance(entry, dict) or not {"video", "points", "occluded"} <= set(entry):
        keys = sorted(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise DatasetError(f"{where}: a video must be a dict with video, points and occluded, got {keys}")
    video = _frames(where, entry["video"])
    points, occluded = np.asarray(entry["points"]), np.asarray(entry["occluded"]).astype(np.bool_)
    if points.ndim != 3 or points.shape[1:] != (len(video), 2) or occluded.shape != points.shape[:2]:
        raise DatasetError(
            f"{where}: points must be (N, {len(video)}, 2) and occluded (N, {len(video)}) for a video of {len(video)} "
            f"frames, got {points.shape} and {occluded.shape}"
        )
    if resize:
        video = resize_video(video, (METRIC_SIZE, METRIC_SIZE))
    # 1 is the centre of the last pixel: the published evaluations of TAPTRv2 and CoTracker read it so.
    height, width = video.shape[1:3]
    xy = points.astype(np.float64) * (width - 1, height - 1)
    return make_sample(name, video, xy.astype(np.float32), ~occluded, None, query_mode)


def _frames(where: str, stored: Any) -> Video:
    """(T, H, W, 3) uint8 from an array of that form, or from a sequence of JPEG files."""
    if isinstance(stored, np.ndarray) and stored.dtype == np.uint8 and stored.ndim == 4 and stored.shape[3] == 3:
        return stored
    if len(stored) and isinstance(stored[0], bytes):
        frames = []
        for i, file in enumerate(stored):
            image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
            if image is None:
                raise DatasetError(f"{where}: frame {i} is not a JPEG that OpenCV can read")
            frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        return np.stack(frames)
    form = f"{stored.shape} {stored.dtype}" if isinstance(stored, np.ndarray) else type(stored).__name__
    raise DatasetError(f"{where}: frames must be (T, H, W, 3) uint8 or JPEG files, got {form}")


def load_frames_folder(path: Path, query_mode: QueryMode = "first", resize: bool = False) -> Sample:
    """A hand-labelled sequence: ``frames/*.png`` and ``gt_tracks.npz``.

    The latter holds points (N, T, 2) in pixels x, y, visible (N, T) and, if some frames are without labels,
    annotated (N, T). Only what is annotated is scored.

    Raises:
        DatasetError: a file is missing or of another form.
    """
    tracks, files = path / "gt_tracks.npz", sorted((path / "frames").glob("*.png"))
    if not tracks.is_file() or not files:
        missing = tracks if not tracks.is_file() else path / "frames" / "*.png"
        raise DatasetError(f"{missing} is missing; a labelled sequence is a folder of frames/*.png and gt_tracks.npz")
    try:
        with np.load(tracks) as data:
            points, visible = data["points"], data["visible"].astype(np.bool_)
            annotated = data["annotated"].astype(np.bool_) if "annotated" in data else np.ones_like(visible)
    except (KeyError, ValueError, OSError) as error:
        raise DatasetError(f"{tracks}: cannot be read as arrays points and visible: {error}") from error
    video = _read_images(files)
    if points.shape != (*visible.shape, 2) or visible.shape[1] != len(files) or annotated.shape != visible.shape:
        raise DatasetError(
            f"{tracks}: points {points.shape}, visible {visible.shape}, annotated {annotated.shape} do not fit "
            f"{len(files)} frames; they must be (N, {len(files)}, 2) and twice (N, {len(files)})"
        )
    if resize:
        # OpenCV's rule: what is at a pixel's centre stays there (half-pixel centres).
        scale = np.array([METRIC_SIZE / video.shape[2], METRIC_SIZE / video.shape[1]])
        points = (points + 0.5) * scale - 0.5
        video = resize_video(video, (METRIC_SIZE, METRIC_SIZE))
    return make_sample(path.name, video, points.astype(np.float32), visible, annotated, query_mode)


def _read_images(files: Sequence[Path]) -> Video:
    frames: list[Video] = []
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None or (frames and image.shape != frames[0].shape):
            raise DatasetError(f"{file}: not an image, or not of the same size as {files[0].name}")
        frames.append(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8))
    return np.stack(frames)
