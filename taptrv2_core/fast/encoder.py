"""A layer of the encoder in one call, for tracking on a CPU.

Blocks of tokens go through a whole layer while they, and the layer's weights, are in the processor's cache. A layer
with too many weights for that is left to oneDNN, and so is bfloat16 where the processor has no products of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taptrv2_core.fast.packing import MOST_PARAMETERS, chain, fits, norm, packed
from taptrv2_core.fast.processor import cpu_has_pairs

if TYPE_CHECKING:
    from taptrv2_core.encoder import EncoderLayer, LevelShapes


class FusedEncoderLayer:
    """A layer's weights as the op reads them: those of ``Encode`` in csrc/encode.h, in its order."""

    def __init__(self, layer: EncoderLayer) -> None:
        attention = layer.self_attn
        heads, _, points = attention.sample_shape
        self.sizes = [heads, points, layer.linear1.out_features]
        both = (attention.sampling_offsets, attention.attention_weights)
        pairs = layer.linear1.weight.dtype == torch.bfloat16
        with torch.no_grad():
            parts = [
                *chain([attention.value_proj], pairs),
                *packed(torch.cat([part.weight for part in both]), torch.cat([part.bias for part in both]), pairs),
                *chain([attention.output_proj], pairs),
                *norm(layer.norm1),
                *chain([layer.linear1, layer.linear2], pairs),
                *norm(layer.norm2),
            ]
            self.parameters = torch.cat(parts)

    @classmethod
    def of(cls, layer: EncoderLayer) -> FusedEncoderLayer | None:
        """None where the op is not built or not made for the device, number format or sizes."""
        size = sum(parameter.numel() for parameter in layer.parameters())
        dtype = layer.linear1.weight.dtype
        usable = dtype == torch.float32 or (dtype == torch.bfloat16 and cpu_has_pairs())
        usable = usable and size <= MOST_PARAMETERS
        return cls(layer) if usable and fits("encode_layer", layer.self_attn.sample_shape, layer.linear1) else None

    def __call__(self, tokens: Tensor, position: Tensor, reference: Tensor, level_shapes: LevelShapes) -> Tensor:
        """As `EncoderLayer.forward`."""
        sizes = [size for shape in level_shapes for size in shape]
        result: Tensor = torch.ops.taptrv2.encode_layer(
            tokens.contiguous(), position, reference, sizes, self.parameters, self.sizes
        )
        return result
