"""Where points probably are in a new frame: the last answer, moved by optical flow where flow can be trusted.

The published network begins every new frame where the newest committed window left a point, up to 4 frames ago. A
network of `ModelConfig.motion` "flow" begins nearer: pyramidal Lucas-Kanade (OpenCV's) moves the last frame's answer,
and the network then corrects it by what it knows of the point's appearance, so that flow's drift does not add up.

Flow is exact from frame to frame and drifts; the network does not drift, and its error of a pixel or two differs from
frame to frame. So a Kalman filter puts them together, one variance P a point. Where a point is given, P is 0. Flow adds
to it, the more the farther a point followed forward and back again misses where it came from. The network's answer is a
measurement of variance R: while the two agree to within `GATE`, flow's prediction is moved towards it by the share
K = P / (P + R), and P becomes (1 - K) P; otherwise the answer is the network's and P is R.

Where a network has a `Refiner`, that makes another measurement, after flow and before the window: by how much the
pixels around a point have to be moved to fit those around its query in the query's own image. It says its variance.

Where flow cannot be trusted, the answer is the network's alone, but it begins at the best guess: where flow leads if
that comes back at least nearly, else as far from the last answer as the points around were moved.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.doubt import Doubts
from taptrv2_core.flow import FlowImage, follow
from taptrv2_core.geometry import UNIT, inverse_sigmoid
from taptrv2_core.refine import Look, Refiner
from taptrv2_core.rest import Places
from taptrv2_core.search import LEAST, Search

NETWORK_VARIANCE = 1.0
"""R, square pixels of `UNIT`, as all variances and the gate."""
FLOW_VARIANCE = (0.01, 10.0)
"""What a frame of flow adds to P: square pixels, and square pixels for every pixel by which the point misses."""
REFINER_VARIANCE = 0.01
"""Added to the square of the refiner's spread: it is as sure again of what it said of the frame before."""
GATE = 4.0
RETURN = 1.0
"""Pixels within which a point followed forward and back again must return."""
NEARLY = 3.0
"""Pixels within which it must return for the network at least to begin there."""
AROUND = 20.0
"""Standard deviation of the weights of the points around a point, in pixels of an image of 256 x 256."""


@dataclass(frozen=True)
class Prediction:
    """Where N queries begin in a new frame.

    Attributes:
        position: (N, 2) float64 x, y in [0, 1].
        known: (N,) bool, whether that is known at all.
        gain: (N,) float64 in [0, 1], K: the network's share in the answer; 1 where flow has not found the point, 0
            where the point was given or rests.
        variance: (N,) float64, P before the network's measurement.
        covered: (N,) bool, whether something is in front of a place at which nothing could be followed.
    """

    position: Tensor
    known: Tensor
    gain: Tensor
    variance: Tensor
    covered: Tensor

    def kept(self, rows: Tensor) -> Prediction:
        """Only the queries in ``rows`` (n,) int64."""
        return Prediction(*(part[rows] for part in vars(self).values()))

    def joined(self, other: Prediction) -> Prediction:
        """These queries, then the others."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Prediction(*(torch.cat(pair) for pair in pairs))


class MotionPrior:
    """The last answer of each query, and where flow takes it in the next frame. Rows are those of the engine."""

    def __init__(self, refiner: Refiner | None = None, held: int = 1) -> None:
        """``refiner``: on the host, in float32; ``held``: how many images back queries may be given."""
        self._refiner = refiner
        self._look: Look | None = None
        self._places = Places()
        self._doubts = Doubts()
        self._image: FlowImage | None = None
        self._held: deque[FlowImage] = deque(maxlen=held)
        self._begun = _given(torch.zeros(0, 2), newest=True)
        self._position = self._begun.position
        self._visible = self._known = self._begun.known
        self._variance = self._begun.variance

    def add(self, position: Tensor, age: int) -> None:
        """More queries, (N, 2) x, y in [0, 1], of the frame ``age`` before the newest; if 0, these are its answers."""
        new, image = _given(position, newest=age == 0), self._held[-1 - age]
        self._join(new, image, new.position)
        self._visible = torch.cat((self._visible, new.known))

    def add_reference(self, position: Tensor, image: FlowImage, found: Tensor) -> None:
        """More queries, (N, 2) x, y in [0, 1] of an image that is none of the stream's, and where they seem to be in
        the newest frame; they count as lost."""
        given = _given(found, newest=False)
        self._join(replace(given, known=torch.ones_like(given.known)), image, position.cpu().double())
        self._visible = torch.cat((self._visible, torch.zeros_like(given.known)))
        self._places.known[-len(position) :] = False

    def _join(self, new: Prediction, image: FlowImage, position: Tensor) -> None:
        """``position``: in the image in which they were given."""
        self._places.add(image.grey, image.pixels.to_pixels(position).numpy())
        if self._refiner is not None:
            look = self._refiner.look(image.around(position))
            self._look = look if self._look is None else self._look.joined(look)
        self._doubts.add(new.known & (new.gain == 1))
        self._begun = self._begun.joined(new)
        self._position = torch.cat((self._position, new.position))
        self._known = torch.cat((self._known, new.known))
        self._variance = torch.cat((self._variance, new.variance))

    def known_by(self, rows: Tensor, position: Tensor, image: FlowImage) -> Prediction:
        """The queries in ``rows`` (n,) look as in another image, at position (n, 2) in [0, 1] of it. In the newest they
        are lost, and may be there. Returns where all queries begin in it."""
        if self._refiner is not None and self._look is not None:
            self._look = self._look.with_others(rows, self._refiner.look(image.around(position.cpu())))
        self._places.known[rows.numpy()] = False
        self._doubts.renew(rows)
        begun = self._begun
        self._begun = Prediction(
            position=begun.position.index_copy(0, rows, position.cpu().double()),
            known=begun.known.index_fill(0, rows, True),
            gain=begun.gain.index_fill(0, rows, 1.0),
            variance=begun.variance.index_fill(0, rows, NETWORK_VARIANCE),
            covered=begun.covered.index_fill(0, rows, False),
        )
        return self._begun

    def keep(self, rows: Tensor) -> None:
        """Keep only the queries in ``rows`` (n,) int64."""
        rows = rows.cpu()
        self._begun = self._begun.kept(rows)
        self._look = None if self._look is None else self._look.kept(rows)
        self._places.keep(rows.numpy())
        self._doubts.keep(rows)
        self._position, self._variance = self._position[rows], self._variance[rows]
        self._visible, self._known = self._visible[rows], self._known[rows]

    def answer(self, position: Tensor, visible: Tensor) -> None:
        """The newest frame's answer: position (N, 2) in [0, 1], visible (N,) bool."""
        begun, self._position, self._visible = self._begun, position.cpu().double(), visible.cpu()
        self._known = torch.ones_like(self._visible)
        measured = (begun.gain == 1) | ~_agree(begun.position, self._position).squeeze(-1)
        self._variance = torch.where(measured, NETWORK_VARIANCE, (1 - begun.gain) * begun.variance)
        followed = (self._visible & (begun.gain > 0) & (begun.gain < 1) & ~self._doubts.doubtful).nonzero().flatten()
        if self._image is not None and len(followed):
            xy = self._image.pixels.to_pixels(self._position[followed]).numpy()
            self._places.seen(self._image.grey, xy, followed.numpy())

    def judged(self, search: Search, logit: Tensor, agreement: Tensor) -> Tensor:
        """The newest answer's agreement (N,) with the search, so that `Search.seen` says what else is known, too.

        Call it after `answer`: doubtful points that are not taken for what they were are not followed from there.

        Args:
            search: that was asked.
            logit: (N,) the network's own of "visible".
            agreement: (N,) as the search has it.
        """
        rows = self._doubts.doubtful.nonzero().flatten()
        if len(rows) and self._refiner is not None:
            agreement = self._strictly(search, rows, logit, agreement)
        for known, value in ((self._begun.gain == 0, 0.0), (self._begun.covered, math.log(LEAST))):
            if known.any():
                agreement = agreement.masked_fill(known.to(agreement.device), value)
        return agreement

    def _strictly(self, search: Search, rows: Tensor, logit: Tensor, agreement: Tensor) -> Tensor:
        """The same where the queries in ``rows`` (n,), which are doubtful, agree as the evidence says; as it is where a
        search's opinions have no weight, as before they are fitted."""
        network, factor, constant = search.opinions.tolist()
        if factor <= 0:
            return agreement
        index = rows.to(agreement.device)
        own = logit[index].float().cpu()
        found = self._doubts.evidence(rows, own, agreement[index].float().cpu(), self._spread(rows))
        self._visible[rows] &= found > 0
        as_agreement = (found - network * own - constant) / factor
        return agreement.index_copy(0, index, as_agreement.clamp(max=0).to(agreement))

    def enter(self, image: FlowImage) -> Prediction:
        """A new frame: where the queries begin in it."""
        before, self._image = self._image, image
        self._held.append(FlowImage(image.grey, image.pixels))  # without its pyramid, which two frames need
        position, variance, gain = self._position.clone(), self._variance.clone(), torch.ones_like(self._variance)
        rows = (self._known & self._visible).nonzero().flatten()
        if before is not None and len(rows) and before.grey.shape == image.grey.shape:
            xy, unit = before.pixels.to_pixels(position[rows]).float().numpy(), UNIT / max(image.grey.shape)
            moved, missed = follow(before, image, xy)
            trusted, lost = missed < RETURN, missed >= NEARLY
            moved[lost] = xy[lost] + mean_step(xy[trusted] * unit, (moved - xy)[trusted], xy[lost] * unit)
            found = rows[torch.from_numpy(trusted)]
            grown = variance[found].numpy() + FLOW_VARIANCE[0] + FLOW_VARIANCE[1] * unit * missed[trusted]
            if self._refiner is not None and self._look is not None and len(found):
                moved[trusted], grown = self._refined(image, found, moved[trusted], grown)
            position[rows] = image.pixels.to_position(torch.from_numpy(moved).double())
            variance[found] = torch.from_numpy(grown)
            gain[found] = variance[found] / (variance[found] + NETWORK_VARIANCE)
        covered = torch.zeros_like(self._known)
        self._begun = self._rested(image, Prediction(position, self._known, gain, variance, covered))
        self._doubts.enter(lost=self._known & (self._begun.gain == 1), resting=self._begun.gain == 0)
        return self._begun

    def _spread(self, rows: Tensor) -> Tensor:
        """The logarithm of the refiner's spread (n,) at the newest answers of the queries in ``rows`` (n,)."""
        assert self._refiner is not None and self._look is not None and self._image is not None
        xy = self._image.pixels.to_pixels(self._position[rows]).float()
        return self._refiner.align(self._look, rows, self._image.grey, xy)[1]

    def _rested(self, image: FlowImage, moved: Prediction) -> Prediction:
        """Points whose place looks as it did are there, unless flow has found them and could see them move."""
        same, other = (torch.from_numpy(places) for places in self._places.enter(image.grey))
        if not (same.any() or other.any()):
            return moved
        plain = torch.from_numpy(self._places.plain())
        lost = moved.known & (moved.gain == 1)
        resting = same & moved.known & (lost | plain)
        there = image.pixels.to_position(torch.from_numpy(self._places.xy))
        return Prediction(
            position=torch.where(resting[:, None], there, moved.position),
            known=moved.known,
            gain=moved.gain.masked_fill(resting, 0),
            variance=moved.variance.masked_fill(resting, FLOW_VARIANCE[0]),
            covered=lost & plain & other,
        )

    def _refined(
        self, image: FlowImage, rows: Tensor, xy: NDArray[np.float32], variance: NDArray[np.float64]
    ) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Predictions xy (n, 2) in pixels of the queries in ``rows`` (n,), and their variance (n,), after the refiner's
        measurement."""
        assert self._refiner is not None and self._look is not None
        aligned = self._refiner.align(self._look, rows, image.grey, torch.from_numpy(xy))
        offset, spread = (part.double().numpy() for part in aligned)
        share = variance / (variance + np.exp(2 * spread) + REFINER_VARIANCE)
        share = np.where(np.linalg.norm(offset, axis=-1) < GATE, share, 0)
        return xy + share[:, None] * offset * (max(image.grey.shape) / UNIT), (1 - share) * variance


def _given(position: Tensor, newest: bool) -> Prediction:
    """Queries where they are given: exact in the newest frame, which the network then does not move; in an older one
    what the network will say of the newest is all that is known."""
    exact = torch.full((len(position),), newest)
    gain, variance = (~exact).double(), torch.where(exact, 0.0, NETWORK_VARIANCE).double()
    return Prediction(position.cpu().double(), exact, gain, variance, torch.zeros_like(exact))


def filtered(begun: Tensor, measured: Tensor, gain: Tensor) -> Tensor:
    """Where flow has found a point and the network agrees, flow's prediction moved towards the network's.

    Args:
        begun: (..., 4) logits of the boxes the network began with.
        measured: (..., 4) logits of those it ended with.
        gain: (..., 1), K; 1 where flow has not found the point, 0 where it does not move.

    Returns:
        (..., 4) logits.
    """
    predicted, ended = begun[..., :2].sigmoid(), measured[..., :2].sigmoid()
    mixed = inverse_sigmoid(predicted + gain * (ended - predicted))
    centre = torch.where((gain == 0) | ((gain < 1) & _agree(predicted, ended)), mixed, measured[..., :2])
    return torch.cat((centre, measured[..., 2:]), dim=-1)


def _agree(predicted: Tensor, measured: Tensor) -> Tensor:
    """Whether positions (..., 2) in [0, 1] are within the gate of each other, (..., 1)."""
    return torch.linalg.vector_norm((measured - predicted) * UNIT, dim=-1, keepdim=True) < GATE


def mean_step(xy: NDArray[np.floating], steps: NDArray[np.floating], at: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean of the ``steps`` (N, 2) of points xy (N, 2) around each place ``at`` (M, 2): (M, 2), 0 where none is near.

    Positions are in pixels of an image of 256 x 256; weights are Gaussian, `AROUND` wide.
    """
    square = ((at[:, None] - xy[None]) ** 2).sum(axis=-1)
    weights = np.exp(-square / (2 * AROUND**2))
    total = weights.sum(axis=1, keepdims=True)
    mean: NDArray[np.floating] = np.where(total > 0.5, weights @ steps / np.maximum(total, 0.5), 0)
    return mean
