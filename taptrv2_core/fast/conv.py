"""3 x 3 convolutions with a quarter of the products, for tracking on a CPU.

Winograd's F(4 x 4, 3 x 3): the 6 x 6 inputs of a tile and the 3 x 3 weights are taken as polynomials at 36 points; a
product at each, in place of 144, gives the tile's 4 x 4 outputs. With the points 0, 5/8, 3/2, their negatives and
infinity the rounding is twice that of the sum as it is written. All arithmetic is float32, also for bfloat16 images:
quicker still than oneDNN's products in bfloat16, but not than those of AMX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taptrv2_core.fast.packing import PANEL, panels
from taptrv2_core.fast.prepared import PackedConv
from taptrv2_core.fast.processor import cpu_has_tiles
from taptrv2_core.ops.backend import active_backend

POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Beside infinity; as in csrc/cpu/convolve.inl."""
MOST_CHANNELS = 256
FEWEST_TILES = 16
"""The weights at all points are 4 times those of the convolution; reading them takes the time where there are more
channels or fewer tiles."""


class TiledConv(PackedConv):
    """A 3 x 3 convolution of stride 1 by the op ``taptrv2::convolve``; of small images, and where ops are switched off,
    by oneDNN."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.points: Tensor | None = None

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether the op is built, and made for the convolution."""
        shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
        return (
            shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
            and (conv.weight.dtype == torch.float32 or (conv.weight.dtype == torch.bfloat16 and not cpu_has_tiles()))
            and all(n % PANEL == 0 and n <= MOST_CHANNELS for n in (conv.in_channels, conv.out_channels))
            and active_backend("cpu") == "fused"
        )

    def forward(self, x: Tensor, relu: bool = False, add: Tensor | None = None) -> Tensor:
        """As of `PackedConv`."""
        tiles = len(x) * -(-x.shape[-2] // 4) * -(-x.shape[-1] // 4)
        if tiles < FEWEST_TILES or active_backend("cpu") != "fused":
            return super().forward(x, relu, add)
        if self.points is None:
            bias = torch.zeros(self.conv.out_channels) if self.conv.bias is None else self.conv.bias.detach()
            self.points = torch.cat((at_points(self.conv.weight.detach()), bias.float()))
        x = x.contiguous(memory_format=torch.channels_last)
        add = None if add is None else add.contiguous(memory_format=torch.channels_last)
        return torch.ops.taptrv2.convolve(x, self.points, add, self.conv.out_channels, relu)  # type: ignore[no-any-return]


def at_points(weight: Tensor) -> Tensor:
    """(outputs, inputs, 3, 3) -> for each panel of outputs and each of the 36 points, (inputs, PANEL); flat."""
    rows = []
    for point in POINTS:
        apart = torch.tensor([point - other for other in POINTS if other != point], dtype=torch.float64).prod()
        rows.append(torch.tensor([1, point, point**2], dtype=torch.float64) / apart)
    rows.append(torch.tensor([0, 0, 1], dtype=torch.float64))
    transform = torch.stack(rows)
    values = (transform @ weight.double() @ transform.t()).flatten(2).float()  # (outputs, inputs, 36)
    by_panel = [torch.cat([panels(part) for part in some.unbind(-1)]) for some in values.split(PANEL)]
    return torch.cat(by_panel)
