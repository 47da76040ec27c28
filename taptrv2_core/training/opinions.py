"""Fits what visibility is made of: the network's own opinion, and how well its answer agrees with the search.

`Search.seen` is a logistic regression of "visible, and within `WITHIN` of where the answer says". It changes nothing
but the visibility that is given out, so its three numbers are fitted to finished weights, on clips with ground truth.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from taptrv2_core.evaluation.adapter import inside_image
from taptrv2_core.evaluation.metrics import to_metric_pixels
from taptrv2_core.evaluation.samples import Sample
from taptrv2_core.model import Taptr
from taptrv2_core.tracker import Tracker

WITHIN = 32.0
"""Pixels of an image of 256 x 256. Smaller ones make AJ higher and the share of right visibility flags lower."""


def fit_opinions(model: Taptr, samples: Iterable[Sample]) -> Tensor:
    """Fit them and put them into the model's search.

    Args:
        model: with a search, in eval mode.
        samples: all weigh the same, however many points they have.

    Returns:
        (3,) the factors of the network's logit and of the agreement, and the constant.

    Raises:
        ValueError: the network has no search, or there are no samples.
    """
    if model.search is None:
        raise ValueError("the network has no search, so there is no second opinion to fit")
    rows: list[Tensor] = []
    for sample in samples:
        own, truth = _logits(model, sample, (1.0, 0.0, 0.0))
        agreement, _ = _logits(model, sample, (0.0, 1.0, 0.0))
        rows.append(torch.stack((own, agreement, truth, torch.full_like(own, 1 / len(own))), dim=1))
    if not rows:
        raise ValueError("there are no samples to fit to")
    own, agreement, truth, weight = torch.cat(rows).T
    opinions = torch.tensor((1.0, 0.0, 0.0), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([opinions], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        logit = opinions[0] * own + opinions[1] * agreement + opinions[2]
        value = F.binary_cross_entropy_with_logits(logit, truth, weight)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimizer.step(loss)
    _set(model, tuple(opinions.tolist()))
    return opinions.detach()


def _set(model: Taptr, opinions: tuple[float, ...]) -> None:
    assert model.search is not None
    model.search.opinions.copy_(torch.tensor(opinions))


def _logits(model: Taptr, sample: Sample, opinions: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Of every answer of the stream: the logit of its visibility, and whether it should be called visible, float64."""
    _set(model, opinions)
    start = inside_image(sample.query_xy, sample.video)
    tracker = Tracker(model, max_points=len(start))
    added: list[int] = []
    logits, truth = [], []
    for t, frame in enumerate(sample.video):
        tracks = tracker.step(frame)
        if added:
            missed = np.linalg.norm(to_metric_pixels(tracks.xy - sample.gt_xy[t, added], sample.frame_size), axis=1)
            share = torch.from_numpy(tracks.visibility).double().clamp(1e-7, 1 - 1e-7)
            logits.append(share.logit())
            truth.append(torch.from_numpy(sample.gt_visible[t, added] & (missed < WITHIN)).double())
        new = np.flatnonzero(sample.query_frame == t)
        tracker.add_points(start[new])
        added += new.tolist()
    return torch.cat(logits), torch.cat(truth)
