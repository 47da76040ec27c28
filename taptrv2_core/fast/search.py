"""The search over a whole image in one call, for tracking on a CPU.

Written in PyTorch it is dozens of small operations on all cells of all levels. The ops make logits in blocks of cells,
then take a group of queries through everything else, a query a lane. They have no gradient. Products are summed in
float32 whatever the number format of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taptrv2_core.fast.packing import PANEL
from taptrv2_core.ops.backend import active_backend

if TYPE_CHECKING:
    from taptrv2_core.encoder import LevelShapes
    from taptrv2_core.search import Asked


def usable(tokens: Tensor) -> bool:
    """Whether the ops are built and made for this memory (B, S, C)."""
    return (
        tokens.device.type == "cpu"
        and tokens.dtype in (torch.float32, torch.bfloat16)
        and len(tokens) == 1
        and tokens.shape[2] % PANEL == 0
        and not torch.is_grad_enabled()
        and active_backend("cpu") == "fused"
    )


def agreement(tokens: Tensor, level_shapes: LevelShapes, asked: Asked, position: Tensor, least: float) -> Tensor:
    """As `Search.agreement`; ``least``: smaller probabilities count as this."""
    result: Tensor = torch.ops.taptrv2.search_agreement(*_given(tokens, level_shapes, asked, position), least)
    return result


def find(
    tokens: Tensor, level_shapes: LevelShapes, asked: Asked, position: Tensor, sure: float, better: float
) -> Tensor:
    """As `Search.find`; a point is at the likeliest place if that is likelier than ``sure``, and than ``better`` times
    the place where the point was."""
    result: Tensor = torch.ops.taptrv2.search_find(*_given(tokens, level_shapes, asked, position), sure, better)
    return result


def _given(
    tokens: Tensor, level_shapes: LevelShapes, asked: Asked, position: Tensor
) -> tuple[Tensor, list[int], list[Tensor], Tensor, Tensor]:
    sizes = [size for shape in level_shapes for size in shape]
    return tokens.contiguous(), sizes, asked.queries, asked.nowhere, position.contiguous()
