"""The folder of results: unfinished ones lie in ``partial/`` and move up when the whole recording is done."""

from __future__ import annotations

import shutil
from pathlib import Path

PARTIAL = "partial"
_TRACKS = ("tracks.csv", "tracks.parquet", "tracks.npz", "tracks.rrd", "tracks_bag", "overlay.mp4")
"""Each is written with some options and not with others."""


class Workspace:
    """Where the files of one run are written and what becomes of those of the runs before it."""

    def __init__(self, folder: Path, names: list[str], recording: Path) -> None:
        """``names`` of the files and folders this run will write. Partial results of a run before it are removed.

        Raises OSError: the folder cannot be made, the recording itself would be replaced, or a folder of that name is
        not one of ours.
        """
        self.folder = folder
        self.partial = folder / PARTIAL
        self._names = names
        partial = [self.partial / name for name in {*names, *_TRACKS}]
        for target in (*(folder / name for name in names), *partial):
            _check_replaceable(target, recording)
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{self.partial}: cannot be made for the results: {error.strerror}") from error
        for path in partial:
            _remove(path)

    def publish(self) -> None:
        """Everything is whole: move it up, in place of what an earlier run left there."""
        for name in self._names:
            if (self.partial / name).exists():
                _remove(self.folder / name)
                (self.partial / name).rename(self.folder / name)
        if not any(self.partial.iterdir()):
            self.partial.rmdir()

    def older(self) -> list[str]:
        """Results in the folder that this run does not write: an earlier one's, with other options."""
        return [name for name in _TRACKS if name not in self._names and (self.folder / name).exists()]

    def discard(self) -> None:
        """Nothing was done: remove what this run began."""
        for name in self._names:
            _remove(self.partial / name)
        if not any(self.partial.iterdir()):
            self.partial.rmdir()


def _check_replaceable(target: Path, recording: Path) -> None:
    if not target.exists():
        return
    place, source = target.resolve(), recording.resolve()
    if place == source or place in source.parents:
        raise OSError(f"{target}: is the recording itself and would be replaced; choose another --out")
    if target.is_dir() and {f.name for f in target.iterdir()} - {"metadata.yaml", f"{target.name}.mcap"}:
        raise OSError(f"{target}: holds files that are not results; move it away or choose another --out")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
