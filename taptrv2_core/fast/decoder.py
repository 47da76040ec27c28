"""The decoder's window in one call, for tracking on a CPU.

At the sizes of a window, a layer written in PyTorch is a hundred small operations, each of which starts all threads and
waits for them. The op ``taptrv2::decode_window`` takes blocks of queries through a whole layer instead, in float32. In
a bfloat16 network the inputs of its linear layers are rounded to that where the processor multiplies pairs of them.

It also needs no keys and values of whole frames, which are most of a tracker's memory and much of its time: it samples
the frames' memory, and only what was sampled goes through their weights. A linear layer and a weighted sum may change
places, so the answers are those of `Decoder`, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taptrv2_core.fast.packing import PANEL, chain, fits, norm, packed, padded, paired, panels
from taptrv2_core.fast.processor import cpu_has_pairs
from taptrv2_core.geometry import waves

if TYPE_CHECKING:
    from taptrv2_core.decoder import Decoder, DecoderLayer
    from taptrv2_core.encoder import LevelShapes
    from taptrv2_core.window import Masks


class KeptLayer:
    """What the first layer made of each (frame, query) pair of a stream before pairs attend each other.

    It depends on the pair and its frame's memory alone. While no window commits those are the same in the next window,
    but for the new frame, so that the op makes it for pairs that have changed only.
    """

    def __init__(self) -> None:
        self._decoder: FusedDecoder | None = None
        self._memories: list[Tensor] = []
        self._rows = torch.empty(0)

    def rows(self, decoder: FusedDecoder, memories: Sequence[Tensor], queries: int) -> Tensor:
        """(F, N, ...) as the op reads and writes it, with nothing in it for frames whose memory is another than before.

        Args:
            decoder: whose layer it is; nothing is kept from another.
            memories: of each frame; they must not be changed in place.
        """
        shape = (len(memories), queries, decoder.kept_row)
        if self._decoder is not decoder or self._rows.shape != shape:
            self._decoder, self._memories = decoder, []
            self._rows = torch.zeros(shape)
        for frame, memory in enumerate(memories):
            if frame >= len(self._memories) or self._memories[frame] is not memory:
                self._rows[frame, :, -1] = 0
        self._memories = list(memories)
        return self._rows


class FusedDecoder:
    """A decoder's weights as the op reads them."""

    def __init__(self, decoder: Decoder) -> None:
        heads, _, points = decoder.layers[0].cross_attn.sample_shape
        linear = decoder.layers[0].linear1
        pairs = linear.weight.dtype == torch.bfloat16 and cpu_has_pairs()
        self.sizes = [heads, points, len(decoder.layers), linear.out_features, 2 if pairs else 1]
        self.kept_row = 6 * heads * PANEL + 8
        """Floats that are kept of a pair: ``kept_row`` in csrc/window.h."""
        self.waves = torch.stack(waves(heads * PANEL // 2, torch.float32, torch.device("cpu")))
        with torch.no_grad():
            self.parameters = torch.cat(list(_decoder_parameters(decoder, pairs)))

    @classmethod
    def of(cls, decoder: Decoder) -> FusedDecoder | None:
        """None where the op is not built or not made for the device, number format or sizes."""
        layer = decoder.layers[0]
        usable = layer.linear1.weight.dtype in (torch.float32, torch.bfloat16)
        return cls(decoder) if usable and fits("decode_window", layer.cross_attn.sample_shape, layer.linear1) else None

    def __call__(
        self,
        content: Tensor,
        reference: Tensor,
        memories: Sequence[Tensor],
        level_shapes: LevelShapes,
        masks: Masks,
        wanted: int | None,
        kept: KeptLayer | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run a window of one stream.

        Args:
            content: (1, F, N, C) at the window's entry.
            reference: (1, F, N, 4) logits of x, y, w, h, float32.
            memories: (1, S, C) of each frame, float32 or bfloat16.
            level_shapes: (height, width) of each level.
            masks: who is updated and who attends whom.
            wanted: the frame to answer for; None: all.
            kept: from the stream's window before.

        Returns:
            Moved position (1, F, N, 2), reference logits (1, F, N, 4) and visibility logits (1, F, N, 3), all float32,
            and feature (1, F, N, C) of the frames wanted, as of `LayerOutput`.
        """
        answer = torch.ops.taptrv2.decode_window(
            content[0].float().contiguous(),
            reference[0].contiguous(),
            [memory[0] for memory in memories],
            [size for shape in level_shapes for size in shape],
            masks.updated[0, ..., 0].contiguous(),
            None if masks.tracked is None else masks.tracked[0].contiguous(),
            -1 if wanted is None else wanted,
            None if kept is None else kept.rows(self, memories, content.shape[2]),
            self.waves,
            self.parameters,
            self.sizes,
        )
        moved, boxes, visibility, hidden = (part.unsqueeze(0) for part in answer)
        return moved, boxes, visibility, hidden.to(content.dtype)


def _decoder_parameters(decoder: Decoder, pairs: bool) -> Iterator[Tensor]:
    """All parameters in the order of ``SharedWeights`` and ``LayerWeights`` in csrc/window.h."""
    for layers in (decoder.ref_point_head.layers, decoder.query_updater, decoder.ca_update_fuser):
        yield from chain(layers, pairs)
    for layer, box, visible in zip(decoder.layers, decoder.bbox_embed, decoder.class_embed, strict=True):
        yield from _layer_parameters(layer, pairs)
        yield from chain(box.layers, pairs)
        yield from packed(visible.weight, visible.bias, pairs)


def _layer_parameters(layer: DecoderLayer, pairs: bool) -> Iterator[Tensor]:
    cross, channels = layer.cross_attn, layer.linear1.in_features
    both = (cross.sampling_offsets, cross.query_proj)
    yield from packed(torch.cat([part.weight for part in both]), torch.cat([part.bias for part in both]), pairs)
    for head in cross.key_proj.weight.split(PANEL):
        yield paired(panels(head.t())) if pairs else panels(head.t())
    yield padded(cross.key_proj.bias)
    yield from chain([cross.value_proj, cross.output_proj], pairs)
    yield from norm(layer.norm1)
    yield from chain([*layer.caupdate_weight_normalizer, *layer.caupdate_weight_regressor], pairs)
    yield from chain(layer.update_pos_embed_head.layers, pairs)
    for attention, after in ((layer.temp_self_attn, layer.norm_temp), (layer.self_attn, layer.norm2)):
        cuts = [2 * channels, channels]
        for weight, bias in zip(attention.in_proj_weight.split(cuts), attention.in_proj_bias.split(cuts), strict=True):
            yield from packed(weight, bias, pairs)
        yield from chain([attention.out_proj], pairs)
        yield from norm(after)
    yield from chain([layer.linear1, layer.linear2], pairs)
    yield from norm(layer.norm3)
