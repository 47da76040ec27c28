"""Points that were lost: what is found again need not be what was lost.

Of all places in an image some look a little like a point that is long gone. Every image is another chance to take one
of them for it, and flow then follows that as well as it would the point itself. So a point that flow has lost is
doubtful, and judged more strictly until it is certain: by the network's logit, by its agreement with the search
(`taptrv2_core.search`), by how well the camera's own pixels there fit those around the query, which is the spread that
the refiner (`taptrv2_core.refine`) expects, and by how long ago it was lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

EVIDENCE = (0.259, 0.311, -0.835, -0.520, 0.922)
"""Factors of logit, agreement, the logarithm of the spread, and that of 1 + images since the point was lost, and a
constant: a logistic regression for "visible, and within 48 pixels of 256 x 256 of where the answer says" of points
that had been lost, on generated clips, some of which go on with another clip's images."""
OLDEST = 24
"""Images since then are counted up to this: the clips it was fitted to are no longer."""
CERTAIN = 1.0
"""Evidence above which a point is not doubtful any more."""


class Doubts:
    """Which of N points are doubtful.

    Attributes:
        images: (N,) int64, for how many images up to now; 0: it is not.
    """

    def __init__(self) -> None:
        self.images = torch.zeros(0, dtype=torch.int64)
        self._certain = torch.zeros(0, dtype=torch.bool)

    @property
    def doubtful(self) -> Tensor:
        """(N,) bool."""
        return self.images > 0

    def add(self, lost: Tensor) -> None:
        """More points, and which of them, (n,) bool, are lost, nobody knows for how long."""
        self.images = torch.cat((self.images, OLDEST * lost))
        self._certain = torch.cat((self._certain, torch.zeros_like(lost)))

    def renew(self, rows: Tensor) -> None:
        """Of the points in ``rows`` (n,) int64 it is not known for how long they are lost."""
        self.images = self.images.index_fill(0, rows, OLDEST)
        self._certain = self._certain.index_fill(0, rows, False)

    def keep(self, rows: Tensor) -> None:
        """Keep only the points in ``rows`` (n,) int64."""
        self.images, self._certain = self.images[rows], self._certain[rows]

    def enter(self, lost: Tensor, resting: Tensor) -> None:
        """A new image, in which flow has lost some points, (N,) bool, and others rest where they were."""
        doubtful = (self.doubtful & ~self._certain & ~resting) | lost
        self.images = torch.where(doubtful, self.images + 1, 0)
        self._certain = torch.zeros_like(lost)

    def evidence(self, rows: Tensor, logit: Tensor, agreement: Tensor, spread: Tensor) -> Tensor:
        """Logit (n,) of the points in ``rows`` (n,) int64 being what they were, by their newest answers.

        What is certain now stays doubtful until the next image.

        Args:
            logit: (n,) the network's own of "visible".
            agreement: (n,) of the answer with the search.
            spread: (n,) logarithm of the refiner's at the answer, in pixels of `geometry.UNIT`.
        """
        network, search, refiner, ago, constant = EVIDENCE
        age = torch.log1p(self.images[rows].clamp(max=OLDEST).float())
        found = network * logit + search * agreement + refiner * spread + ago * age + constant
        self._certain[rows] = found > CERTAIN
        return found
