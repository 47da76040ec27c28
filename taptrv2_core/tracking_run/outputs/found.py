"""Points of references are shown from when they are found, as by the live node: before, their places mean nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.tracking_run.outputs.output import Labels
from taptrv2_core.tracks import Tracks


class FoundPoints:
    """Remembers which points of references were found."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._found: set[int] = set()

    def sought(self, tracks: Tracks) -> NDArray[np.bool_]:
        """(N,): which of the next image's points were not found before it."""
        labels, found = self._labels, self._found
        return np.array([i in labels and labels[i].reference and i not in found for i in tracks.ids.tolist()], np.bool_)

    def places(self, tracks: Tracks) -> NDArray[np.float32]:
        """(N, 2) x, y of the next image's points, NaN of those not found yet, which drawing leaves out."""
        self._found.update(tracks.ids[tracks.visible].tolist())
        return np.where(self.sought(tracks)[:, None], np.float32(np.nan), tracks.xy)
