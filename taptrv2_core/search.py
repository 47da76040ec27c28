"""Where in a whole image a query's point is, for points that are lost: attention only sees a query's surroundings.

A vector made from the query's initial content, one a level, is compared with memory at every cell. That gives a
probability for every cell of level 0, and one for "nowhere": hidden or outside the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.config import ModelConfig
from taptrv2_core.encoder import LevelShapes
from taptrv2_core.geometry import constant
from taptrv2_core.layers import mlp, modules
from taptrv2_core.prepared import Linear

AROUND = 5
"""A place is these cells square."""
SURE = 0.5
"""A lost point is taken to be at the likeliest place if its probability is above this, and above ..."""
BETTER = 2.0
"""... so many times that of the place where it was last."""


class Search(nn.Module):
    """Compares queries with all of a frame's memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.queries = modules(Linear(c, c) for _ in range(config.levels))
        self.nowhere = mlp(c, c, 1)

    @torch.no_grad()
    def start_from(self, query: nn.Linear, key: nn.Linear, heads: int) -> None:
        """Begin with the attention logits that these projections give, averaged over heads."""
        scale = (query.out_features / (query.out_features // heads)) ** 0.5 / heads
        for linear in self.queries:
            linear.weight.copy_(scale * key.weight.t() @ query.weight)
            linear.bias.copy_(scale * key.weight.t() @ query.bias)

    def forward(self, tokens: Tensor, level_shapes: LevelShapes, initial: Tensor) -> Tensor:
        """Log probabilities of level 0's cells, row by row, and, last, of "nowhere".

        Args:
            tokens: (B, S, C), memory of frames.
            initial: (B, N, C) initial content of queries.

        Returns:
            (B, N, H * W + 1) float32.
        """
        sizes = [height * width for height, width in level_shapes]
        total = torch.zeros((), device=tokens.device)
        for linear, level, shape in zip(self.queries, tokens.split(sizes, dim=1), level_shapes, strict=True):
            query = linear(initial) * initial.shape[-1] ** -0.5
            logits = (query @ level.transpose(1, 2)).float().unflatten(-1, shape)
            if shape != level_shapes[0]:
                logits = F.interpolate(logits, size=level_shapes[0], mode="bilinear", align_corners=False)
            total = total + logits
        return torch.cat((total.flatten(2), self.nowhere(initial).float()), dim=-1).log_softmax(dim=-1)

    def find(self, tokens: Tensor, level_shapes: LevelShapes, initial: Tensor, position: Tensor) -> Tensor:
        """Where queries begin that are lost.

        Args:
            tokens: (1, S, C), memory of the frame.
            initial: (1, N, C) initial content.
            position: (1, N, 2) x, y in [0, 1], where they were last.

        Returns:
            (1, N, 2): the likeliest place where that is sure enough, else where they were.
        """
        height, width = level_shapes[0]
        shares = self(tokens, level_shapes, initial)[0, :, :-1].exp()
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
        x, y = (position[0] * size.to(position)).long().unbind(-1)
        here = places.gather(1, (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).unsqueeze(1)).squeeze(1)
        surely = (likely > SURE) & (likely > BETTER * here)
        return torch.where(surely.unsqueeze(-1), found.to(position), position[0]).unsqueeze(0)


def _sums(shares: Tensor, dim: int) -> Tensor:
    """Of every `AROUND` in a row; on a CPU much quicker than pooling."""
    count = shares.shape[dim] - AROUND + 1
    total = shares.narrow(dim, 0, count)
    for i in range(1, AROUND):
        total = total + shares.narrow(dim, i, count)
    return total
