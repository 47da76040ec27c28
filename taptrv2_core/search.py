"""Where in a whole image a query's point is, for points that are lost: attention only sees a query's surroundings.

A vector made from the query's initial content, one a level, is compared with memory at every cell. That gives a
probability for every cell of level 0, and one for "nowhere": hidden or outside the image.

It is a second opinion on answers, too: where a point has been followed to a place that looks like it no more than
others do, it is hidden there, or something else was followed. `Search.seen` makes one visibility of both opinions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.config import ModelConfig
from taptrv2_core.encoder import LevelShapes
from taptrv2_core.fast import search as fused
from taptrv2_core.fast.prepared import Linear
from taptrv2_core.geometry import constant
from taptrv2_core.layers import mlp, modules

AROUND = 5
"""A place is these cells square."""
SURE = 0.5
"""A lost point is taken to be at the likeliest place if its probability is above this, and above ..."""
BETTER = 2.0
"""... so many times that of the place where it was last."""
LEAST = 1e-6
"""Smaller probabilities count as this in an agreement."""


@dataclass(frozen=True)
class Asked:
    """What N queries look for.

    Attributes:
        queries: a level each, (B, N, C).
        nowhere: (B, N, 1) float32, logit of "nowhere".
    """

    queries: list[Tensor]
    nowhere: Tensor

    def kept(self, rows: Tensor) -> Asked:
        """Of the queries in ``rows`` (n,) int64 alone."""
        return Asked([query.index_select(1, rows) for query in self.queries], self.nowhere.index_select(1, rows))


class Search(nn.Module):
    """Compares queries with all of a frame's memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.queries = modules(Linear(c, c) for _ in range(config.levels))
        self.nowhere = mlp(c, c, 1)
        self.opinions: Tensor
        self.register_buffer("opinions", torch.tensor((1.0, 0.0, 0.0)))
        """Of `seen`: factors of the network's logit and of the agreement, and a constant; fitted after training."""

    @torch.no_grad()
    def start_from(self, query: nn.Linear, key: nn.Linear, heads: int) -> None:
        """Begin with the attention logits that these projections give, averaged over heads."""
        scale = (query.out_features / (query.out_features // heads)) ** 0.5 / heads
        for linear in self.queries:
            linear.weight.copy_(scale * key.weight.t() @ query.weight)
            linear.bias.copy_(scale * key.weight.t() @ query.bias)

    def ask(self, initial: Tensor) -> Asked:
        """What is looked for, from queries' initial content (B, N, C)."""
        scale = initial.shape[-1] ** -0.5
        return Asked([linear(initial) * scale for linear in self.queries], self.nowhere(initial).float())

    def forward(self, tokens: Tensor, level_shapes: LevelShapes, initial: Tensor) -> Tensor:
        """Log probabilities of level 0's cells, row by row, and, last, of "nowhere".

        Args:
            tokens: (B, S, C), memory of frames.
            initial: (B, N, C) initial content of queries.

        Returns:
            (B, N, H * W + 1) float32.
        """
        return _log_shares(tokens.split(_sizes(level_shapes), dim=1), level_shapes, self.ask(initial))

    def agreement(self, tokens: Tensor, level_shapes: LevelShapes, asked: Asked, position: Tensor) -> Tensor:
        """How well an answer agrees with the search: the logarithm of the probability of the place around it.

        The finest cells are taken four together, which tells as much in a third of the time.

        Args:
            tokens: (1, S, C), memory of the frame.
            asked: what `ask` says of the N queries.
            position: (1, N, 2) x, y in [0, 1], the answer.

        Returns:
            (1, N, 1) float32, from the logarithm of `LEAST` to 0.
        """
        if fused.usable(tokens):
            return fused.agreement(tokens, level_shapes, asked, position, LEAST)
        first, *others = tokens.split(_sizes(level_shapes), dim=1)
        image = halved(first.unflatten(1, level_shapes[0]))
        height, width = image.shape[1:3]
        levels = (image.flatten(1, 2), *others)
        asked = Asked(asked.queries, asked.nowhere - math.log(4))
        log_shares = _log_shares(levels, ((height, width), *level_shapes[1:]), asked)
        x, y = _cells(position[0], (height, width)).unbind(-1)
        near = (torch.arange(3, device=x.device) - 1).unsqueeze(0)
        x, y = x.unsqueeze(1) + near, y.unsqueeze(1) + near
        inside = ((y >= 0) & (y < height)).unsqueeze(2) & ((x >= 0) & (x < width)).unsqueeze(1)
        cells = y.clamp(0, height - 1).unsqueeze(2) * width + x.clamp(0, width - 1).unsqueeze(1)
        shares = log_shares[0].gather(1, cells.flatten(1)).exp() * inside.flatten(1)
        return shares.sum(dim=-1).clamp(LEAST, 1).log()[None, :, None]

    def seen(self, logit: Tensor, agreement: Tensor) -> Tensor:
        """The logit of "visible, and where the answer says" from the network's own of "visible", and the agreement."""
        network, search, constant = self.opinions.to(logit).unbind()
        return network * logit + search * agreement.to(logit) + constant

    def likeliest(self, tokens: Tensor, level_shapes: LevelShapes, asked: Asked) -> Tensor:
        """The likeliest place of each query, (1, N, 2) x, y in [0, 1], however sure it is; else as `find`."""
        nowhere = asked.nowhere.new_zeros(1, asked.nowhere.shape[1], 2)
        return self.find(tokens, level_shapes, asked, nowhere, sure=-1, better=-1)

    def find(
        self,
        tokens: Tensor,
        level_shapes: LevelShapes,
        asked: Asked,
        position: Tensor,
        sure: float = SURE,
        better: float = BETTER,
    ) -> Tensor:
        """Where queries begin that are lost.

        Args:
            tokens: (1, S, C), memory of the frame.
            asked: what `ask` says of the N queries.
            position: (1, N, 2) x, y in [0, 1], where they were last.
            sure, better: see `SURE` and `BETTER`.

        Returns:
            (1, N, 2): the likeliest place where that is sure enough, else where they were.
        """
        if fused.usable(tokens):
            return fused.find(tokens, level_shapes, asked, position, sure, better)
        height, width = level_shapes[0]
        shares = _log_shares(tokens.split(_sizes(level_shapes), dim=1), level_shapes, asked)[0, :, :-1].exp()
        padded = F.pad(shares.view(-1, height, width), (AROUND // 2,) * 4)
        places = _sums(_sums(padded, 1), 2).flatten(1)
        likely, at = places.max(dim=-1)
        cell = torch.stack((at % width, at // width), dim=-1)
        row = torch.arange(len(at), device=at.device)
        near = padded.unfold(1, AROUND, 1).unfold(2, AROUND, 1)[row, cell[:, 1], cell[:, 0]]
        step = torch.arange(AROUND, device=at.device) - AROUND // 2
        mean = torch.stack([near.sum(dim) @ step.to(near) for dim in (1, 2)], dim=-1) / near.sum((1, 2)).unsqueeze(-1)
        size = constant((width, height), shares)
        found = (cell + 0.5 + mean) / size
        x, y = _cells(position[0], level_shapes[0]).unbind(-1)
        here = places.gather(1, (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).unsqueeze(1)).squeeze(1)
        surely = (likely > sure) & (likely > better * here)
        return torch.where(surely.unsqueeze(-1), found.to(position), position[0]).unsqueeze(0)


def _cells(position: Tensor, shape: tuple[int, int]) -> Tensor:
    """Columns and rows (N, 2) of positions in [0, 1]; well outside where a position is that, or NaN: what those are as
    whole numbers depends on the processor."""
    size = constant((shape[1], shape[0]), position)
    return (position * size).nan_to_num(nan=-2).clamp(-2, max(shape) + 2).long()


def _sizes(level_shapes: LevelShapes) -> list[int]:
    return [height * width for height, width in level_shapes]


def _log_shares(levels: Sequence[Tensor], level_shapes: LevelShapes, asked: Asked) -> Tensor:
    """Log probabilities of the first level's cells and "nowhere", from each level's memory (B, H * W, C)."""
    total = torch.zeros((), device=asked.nowhere.device)
    for query, level, shape in zip(asked.queries, levels, level_shapes, strict=True):
        logits = (query @ level.transpose(1, 2)).float().unflatten(-1, shape)
        total = total + enlarged(logits, level_shapes[0])
    return torch.cat((total.flatten(2), asked.nowhere), dim=-1).log_softmax(dim=-1)


def halved(image: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C), means of four; an odd edge counts twice."""
    height, width = image.shape[1:3]
    if height % 2:
        image = torch.cat((image, image[:, -1:]), dim=1)
    if width % 2:
        image = torch.cat((image, image[:, :, -1:]), dim=2)
    left, right = image[:, :, ::2], image[:, :, 1::2]
    return (left[:, ::2] + left[:, 1::2] + right[:, ::2] + right[:, 1::2]) / 4


def enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., h, w) float32 -> (..., H, W), bilinear as `F.interpolate`, but on a CPU in a quarter of the time."""
    if logits.shape[-2:] == size:
        return logits
    rows, columns = (_enlarging(n, m, logits.device) for n, m in zip(logits.shape[-2:], size, strict=True))
    with torch.autocast(logits.device.type, enabled=False):
        return rows @ (logits @ columns.t())


@lru_cache(maxsize=64)
def _enlarging(before: int, after: int, device: torch.device) -> Tensor:
    """Matrix (after, before) of linear interpolation."""
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        each = torch.eye(before, device=device).unsqueeze(0)
        return F.interpolate(each, size=after, mode="linear", align_corners=False)[0].t().contiguous()


def _sums(shares: Tensor, dim: int) -> Tensor:
    """Of every `AROUND` in a row; on a CPU much quicker than pooling."""
    count = shares.shape[dim] - AROUND + 1
    total = shares.narrow(dim, 0, count)
    for i in range(1, AROUND):
        total = total + shares.narrow(dim, i, count)
    return total
