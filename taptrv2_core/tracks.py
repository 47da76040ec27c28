"""What a tracker says of its points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tracks:
    """Points in one frame; entry i of every array belongs to ``ids[i]``.

    Attributes:
        ids: (N,) int64.
        x, y: (N,) float32 pixels of the image; the centre of the top-left pixel is (0, 0).
        visibility: (N,) float32 in [0, 1], how sure the tracker is that the point can be seen, where x and y say.
        visible: (N,) bool, visibility above 0.5; where false, x and y are a guess.
        found: (N,) bool; where false, x and y mean nothing: of points of references (`Tracker.add_reference`), until
            the first frame they are called visible in, since they were added or the tracker was reset. From then on,
            and always of points given by their place, true. The newest frame's goes by all answers so far; a refined
            answer's by refined ones, for frames up to its own.
        frame_index: number of the frame, from 0.
        stamp: the stamp given with the frame, or its number.
        final: whether later windows will leave this result alone.
        refined: after a committing window, the same for the older frames it holds, oldest first; the first half of
            them are final.
    """

    ids: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    visibility: NDArray[np.float32]
    visible: NDArray[np.bool_]
    found: NDArray[np.bool_]
    frame_index: int
    stamp: int
    final: bool = False
    refined: tuple[Tracks, ...] = ()

    @property
    def xy(self) -> NDArray[np.float32]:
        """(N, 2) pixels x, y."""
        return np.stack((self.x, self.y), axis=-1)

    @property
    def found_xy(self) -> NDArray[np.float32]:
        """(N, 2) the same, NaN of points not found yet."""
        return np.where(self.found[:, None], self.xy, np.float32(np.nan))


@dataclass(frozen=True)
class Queries:
    """The points a tracker follows and where each was last; entry i of every array belongs to ``ids[i]``.

    Attributes:
        ids: (N,) int64.
        frame_index: (N,) int64, the frame each point was given in; -1: the first image, not seen yet, or a reference.
        x, y, visibility, visible, found: as in `Tracks`, in the newest frame; of a point added since, where it was
            given.
    """

    ids: NDArray[np.int64]
    frame_index: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    visibility: NDArray[np.float32]
    visible: NDArray[np.bool_]
    found: NDArray[np.bool_]
