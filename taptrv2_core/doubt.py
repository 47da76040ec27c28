"""Points that were lost: what is found again need not be what was lost.

Of all places in an image some look a little like a point that is long gone. Every image is another chance to take one
of them for it, and flow then follows that as well as it would the point itself. So a point that flow has lost is doubtful,
and judged more strictly until it is certain: by the network's logit, by its agreement with the search
(`taptrv2_core.search`), and by how well the camera's own pixels there fit those around the query, which is the spread
that the refiner (`taptrv2_core.refine`) expects.
"""

from __future__ import annotations

import torch
from torch import Tensor

EVIDENCE = (0.259, 0.736, -1.102, 0.17)
"""Factors of logit, agreement and the logarithm of the spread, and a constant. A logistic regression for "visible, and
within 8 pixels of 256 x 256 of where the answer says" of points that had been lost, on generated clips, some of which
went on with another clip's images; the constant was raised by 0.3, as points are hidden no less wrongly than shown."""
CERTAIN = 3.0
"""Evidence above which a point is not doubtful any more."""


def evidence(logit: Tensor, agreement: Tensor, spread: Tensor) -> Tensor:
    """Logit (N,) of N doubtful points being what they were.

    Args:
        logit: (N,) the network's own of "visible".
        agreement: (N,) of the answer with the search.
        spread: (N,) logarithm of the refiner's at the answer, in pixels of `geometry.UNIT`.
    """
    network, search, refiner, constant = EVIDENCE
    return network * logit + search * agreement + refiner * spread + constant


class Doubts:
    """Which of N points are doubtful.

    Attributes:
        doubtful: (N,) bool.
    """

    def __init__(self) -> None:
        self.doubtful = torch.zeros(0, dtype=torch.bool)
        self._certain = self.doubtful

    def add(self, doubtful: Tensor) -> None:
        """More points, (N,) bool."""
        self.doubtful = torch.cat((self.doubtful, doubtful))
        self._certain = torch.cat((self._certain, torch.zeros_like(doubtful)))

    def keep(self, rows: Tensor) -> None:
        """Keep only the points in ``rows`` (n,) int64."""
        self.doubtful, self._certain = self.doubtful[rows], self._certain[rows]

    def enter(self, lost: Tensor, resting: Tensor) -> None:
        """A new image, in which flow has lost some points, (N,) bool, and others rest where they were."""
        self.doubtful = (self.doubtful & ~self._certain & ~resting) | lost
        self._certain = torch.zeros_like(lost)

    def judge(self, rows: Tensor, evidence: Tensor) -> None:
        """The evidence (n,) of the newest answers of the points in ``rows`` (n,) int64; they stay doubtful until the
        next image."""
        self._certain[rows] = evidence > CERTAIN
