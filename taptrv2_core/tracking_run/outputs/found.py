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

    def places(self, tracks: Tracks) -> NDArray[np.float32]:
        """(N, 2) x, y of the next image's points, NaN of those not found yet, which drawing leaves out."""
        self._found.update(tracks.ids[tracks.visible].tolist())
        shown = [i in self._found or not (i in self._labels and self._labels[i].reference) for i in tracks.ids.tolist()]
        return np.where(np.array(shown, np.bool_)[:, None], tracks.xy, np.float32(np.nan))
