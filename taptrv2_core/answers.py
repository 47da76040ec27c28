"""What windows say of a stream's points, as `Tracks`, and what they have said so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from taptrv2_core.fast.transfer import to_host
from taptrv2_core.geometry import PixelMap
from taptrv2_core.given import Given
from taptrv2_core.tracks import Tracks
from taptrv2_core.window_result import VISIBLE_CLASS, WindowResult

Place = tuple[float, float, float]
"""x, y in pixels and visibility."""


def places(result: WindowResult, pixels: PixelMap) -> NDArray[np.float32]:
    """x, y in pixels and visibility of a window's answer on the host, (F, N, 3)."""
    logits = torch.cat((result.reference[0, ..., :2], result.visibility[0, ..., VISIBLE_CLASS, None]), dim=-1)
    shares = to_host(logits).sigmoid()
    return torch.cat((pixels.to_pixels(shares[..., :2]), shares[..., 2:]), dim=-1).float().numpy()


@dataclass(frozen=True)
class Answer:
    """A window's answer for some of its frames.

    Attributes:
        ids: (N,) int64 of all points.
        rows: of each frame, by its number: which of the points were given by then.
        table: (F, N, 3), see `places`: of all frames of the ring, or of the newest alone.
        stamps: of each frame.
    """

    ids: NDArray[np.int64]
    rows: dict[int, NDArray[np.int64]]
    table: NDArray[np.float32]
    stamps: dict[int, int]

    def of_frame(self, frame: int) -> NDArray[np.float32]:
        """(N, 3) of all points."""
        table: NDArray[np.float32] = self.table[frame % len(self.table)]
        return table

    def tracks(self, frame: int, sought: set[int]) -> Tracks:
        """Of the points given by then. Those that it calls visible are ``sought`` no more."""
        rows = self.rows[frame]
        ids, (x, y, visibility) = self.ids[rows], np.ascontiguousarray(self.of_frame(frame)[rows].T)
        visible = visibility > 0.5
        sought.difference_update(ids[visible].tolist())
        return Tracks(ids, x, y, visibility, visible, _found(ids, sought), frame, self.stamps[frame])


class Answers:
    """What was said of the points since tracking started: where each was last, and which were found.

    Points of references are found once an answer calls them visible. Refined answers count for all, but for refined
    ones nothing else does: each frame of those is said to be found by what they themselves say up to it.
    """

    def __init__(self, given: Iterable[Given]) -> None:
        """With points that are given beforehand."""
        self._last: dict[int, Place] = {}
        self._unread: Answer | None = None
        self._sought: set[int] = set()
        self._sought_by_refined: set[int] = set()
        for points in given:
            self.add(points)

    def add(self, given: Given) -> None:
        """More points."""
        self.last_seen().update(zip(given.ids, given.where_given, strict=True))
        if given.picture is not None:
            self._sought.update(given.ids)
            self._sought_by_refined.update(given.ids)

    def remove(self, gone: set[int]) -> None:
        """Forget points."""
        for point in gone:
            self.last_seen().pop(point, None)
        self._sought -= gone
        self._sought_by_refined -= gone

    def last_seen(self) -> dict[int, Place]:
        """Of each point by its id. Made when it is asked for, which few steps do."""
        if self._unread is not None:
            newest, self._unread = self._unread, None
            rows = newest.of_frame(max(newest.rows)).tolist()
            self._last = dict(zip(newest.ids.tolist(), map(tuple, rows), strict=True))
        return self._last

    def found(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(N,) which of these points were found."""
        return _found(ids, self._sought)

    def newest(self, answer: Answer) -> Tracks:
        """An answer's tracks in its newest frame, and, where a window committed, in the others."""
        *older, newest = answer.rows
        refined = self.refined(answer, older, final=older[: len(answer.rows) // 2])
        for tracks in refined:
            seen = tracks.ids[tracks.visible].tolist()
            self._sought.difference_update(seen)
            if tracks.final:
                self._sought_by_refined.difference_update(seen)
        self._unread = answer
        return replace(answer.tracks(newest, self._sought), refined=refined)

    def refined(self, answer: Answer, frames: Iterable[int], final: Collection[int]) -> tuple[Tracks, ...]:
        """An answer's tracks in frames, oldest first; which of these are final. Nothing is remembered."""
        sought = set(self._sought_by_refined)
        return tuple(replace(answer.tracks(frame, sought), final=frame in final) for frame in frames)


def _found(ids: NDArray[np.int64], sought: set[int]) -> NDArray[np.bool_]:
    return ~np.isin(ids, list(sought))
