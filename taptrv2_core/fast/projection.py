"""Feature levels to the encoder's tokens in one call, for tracking on a CPU.

For every level a 1 x 1 convolution, then a GroupNorm, which waits for all of the level: two passes over all levels
together, in place of five operations and a copy for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from taptrv2_core.fast.packing import MOST_PARAMETERS, PANEL, norm, packed
from taptrv2_core.fast.processor import cpu_has_pairs
from taptrv2_core.ops.backend import active_backend


class FusedProjection:
    """The weights of all levels as the op reads them."""

    def __init__(self, projections: Iterable[nn.Sequential]) -> None:
        layers = _layers(projections)
        first, first_norm = layers[0]
        self.channels, self.groups = first.out_channels, first_norm.num_groups
        pairs = first.weight.dtype == torch.bfloat16
        parts: list[Tensor] = []
        with torch.no_grad():
            for conv, group_norm in layers:
                assert conv.bias is not None
                parts += [*packed(conv.weight.flatten(1), conv.bias, pairs), *norm(group_norm)]
            self.parameters = torch.cat(parts)

    @classmethod
    def of(cls, projections: Sequence[nn.Sequential]) -> FusedProjection | None:
        """None where the op is not built or not made for the device, number format or sizes."""
        weights = [conv.weight for conv, _ in _layers(projections)]
        dtype = weights[0].dtype
        usable = (
            all(w.device.type == "cpu" and not any(n % PANEL for n in w.shape[:2]) for w in weights)
            and sum(w.numel() for w in weights) <= MOST_PARAMETERS
            and (dtype == torch.float32 or (dtype == torch.bfloat16 and cpu_has_pairs()))
            and active_backend("cpu") == "fused"
        )
        return cls(projections) if usable else None

    def __call__(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, inputs, H, W) -> tokens (B, S, C), level after level, row by row."""
        levels = [level.contiguous(memory_format=torch.channels_last) for level in levels]
        tokens: Tensor = torch.ops.taptrv2.project_levels(levels, self.channels, self.groups, self.parameters)
        return tokens


def _layers(projections: Iterable[nn.Sequential]) -> list[tuple[nn.Conv2d, nn.GroupNorm]]:
    return [(cast(nn.Conv2d, conv), cast(nn.GroupNorm, group_norm)) for conv, group_norm in projections]
