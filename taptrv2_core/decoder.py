"""The decoder: a window of frames x queries moves by key-aware attention and its position update.

Step numbers below are the order of computation inside one layer, as in section 3.2 of the TAPTRv2 paper
(arXiv 2407.16291).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.config import ModelConfig
from taptrv2_core.encoder import LevelShapes, sample_cells
from taptrv2_core.fast.decoder import FusedDecoder
from taptrv2_core.fast.prepared import Linear, PackedLinear, Prepared
from taptrv2_core.layers import MLP, Chain, MultiHeadAttention, init_sampling_offsets, mlp, modules
from taptrv2_core.ops import active_backend, key_aware_deformable_attention_from_offsets
from taptrv2_core.ops.steps import add_norm, attends_frames, box_code, move_positions, refine_boxes
from taptrv2_core.window import EVERY, Frames, LayerOutput, Masks


class KeyAwareAttention(Prepared):
    """Key-aware deformable cross attention of queries to their frame's memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.sample_shape = (config.heads, config.levels, config.points)
        self.sampling_offsets = Linear(c, 2 * config.samples)
        self.value_proj = Linear(c, c)
        self.key_proj = Linear(c, c)
        self.query_proj = Linear(c, c)
        self.output_proj = Linear(c, c)
        init_sampling_offsets(self.sampling_offsets, *self.sample_shape)

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight (2C, C) and bias (2C,) that give keys and values side by side a head."""
        heads = self.sample_shape[0]
        pairs = zip(
            (self.key_proj.weight, self.key_proj.bias), (self.value_proj.weight, self.value_proj.bias), strict=True
        )
        weight, bias = (torch.stack([t.unflatten(0, (heads, -1)) for t in pair], dim=1).flatten(0, 2) for pair in pairs)
        return weight, bias

    def project(self, memory: Tensor) -> Tensor:
        """memory (R, S, C) -> keys and values (R, S, M, 2, D), side by side a head."""
        return F.linear(memory, *self.projection()).unflatten(-1, (self.sample_shape[0], 2, -1))

    def derive(self) -> None:
        """Pack the weights of keys and values together."""
        weight, bias = self.projection()
        self.derived = (weight, bias, PackedLinear.of(weight, bias))

    @torch.no_grad()
    def project_into(self, memory: Tensor, out: Tensor) -> None:
        """`project` for one frame, memory (S, C), into out (S, M, 2, D), contiguous."""
        weight, bias, packed = self.derived or (*self.projection(), None)
        if packed is None:
            torch.addmm(bias, memory, weight.t(), out=out.flatten(1))
        else:
            out.flatten(1).copy_(packed(memory))

    def forward(
        self, query: Tensor, position: Tensor, key_value: Tensor, level_shapes: LevelShapes, slots: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend the sampled keys and values.

        Args:
            query: (B, F, N, C), content plus position embedding.
            position: (B, F, N, 2) x, y in [0, 1].
            key_value: (R, S, M, 2, D) of the frames held; or (F, S, C), the memory of the window's frames.
            slots: (B * F,) which of those held each frame of the window is.

        Returns:
            Output (B, F, N, C), raw attention logits (B, F, N, K), sampling offsets in cells (B, F, N, K, 2); K runs
            over head, level, point.
        """
        batch = query.shape[:2]
        offsets = self.sampling_offsets(query).unflatten(-1, (*self.sample_shape, 2))
        heads = self.query_proj(query).unflatten(-1, (self.sample_shape[0], -1))
        given = heads.flatten(0, 1), position.flatten(0, 1), offsets.flatten(0, 1)
        attend = self._attend_held if key_value.dim() == 5 else self._attend_memory
        output, logits = attend(*given, key_value, level_shapes, slots)
        output = self.output_proj(output.unflatten(0, batch))
        return output, logits.flatten(-2).unflatten(0, batch), offsets.flatten(-4, -2)

    def _attend_held(
        self, heads: Tensor, position: Tensor, offsets: Tensor, key_value: Tensor, shapes: LevelShapes, slots: Tensor
    ) -> tuple[Tensor, Tensor]:
        return key_aware_deformable_attention_from_offsets(heads, key_value, shapes, position, offsets, slots)

    def _attend_memory(
        self, heads: Tensor, position: Tensor, offsets: Tensor, tokens: Tensor, shapes: LevelShapes, slots: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Frame by frame, with room for the keys and values of one: they are read while they are in a GPU's cache."""
        room = tokens.new_empty(1, tokens.shape[1], self.sample_shape[0], 2, heads.shape[-1])
        first, answers = torch.zeros_like(slots[:1]), []
        for frame, memory in enumerate(tokens):
            self.project_into(memory, room[0])
            own = slice(frame, frame + 1)
            answers.append(self._attend_held(heads[own], position[own], offsets[own], room, shapes, first))
        output, logits = zip(*answers, strict=True)
        return torch.cat(output), torch.cat(logits)


class DecoderLayer(nn.Module):
    """Key-aware attention, position update, temporal attention, query attention, feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.cross_attn = KeyAwareAttention(config)
        self.norm1 = nn.LayerNorm(c)
        self.self_attn = MultiHeadAttention(c, config.heads)
        self.norm2 = nn.LayerNorm(c)
        self.temp_self_attn = MultiHeadAttention(c, config.heads)
        self.norm_temp = nn.LayerNorm(c)
        self.linear1 = Linear(c, config.decoder_feedforward)
        self.linear2 = Linear(config.decoder_feedforward, c)
        self.norm3 = nn.LayerNorm(c)
        self.update_pos_embed_head = MLP(2 * c, c, c)
        self.caupdate_weight_normalizer = Chain(*mlp(config.samples, c, c), nn.ReLU())
        self.caupdate_weight_regressor = Chain(Linear(c, config.samples))

    def project(self, memory: Tensor) -> Tensor:
        """What the layer needs of frames, once each: memory (R, S, C) -> keys and values (R, S, M, 2, D)."""
        return self.cross_attn.project(memory)

    def move(
        self, box: Tensor, logits: Tensor, offsets: Tensor, level_shapes: LevelShapes, updated: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attention-based position update (step 4) of boxes (B, F, N, 4), see `move_positions`."""
        weights = self.caupdate_weight_regressor(self.caupdate_weight_normalizer(logits.to(self.linear1.weight.dtype)))
        cells = sample_cells(level_shapes, self.cross_attn.sample_shape, box).flatten(0, 2)
        return move_positions(box, weights, offsets, cells, updated, self.linear1.in_features // 2)

    def forward(
        self,
        content: Tensor,
        embedding: Tensor,
        box: Tensor,
        position: Tensor,
        key_value: Tensor,
        level_shapes: LevelShapes,
        slots: Tensor,
        masks: Masks,
        wanted: slice | Tensor = EVERY,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer up to its feed-forward (steps 3 to 8).

        Args:
            content, embedding: (B, F, N, C) feature of each pair and the embedding of its reference.
            box, position: (B, F, N, 4) x, y, w, h in [0, 1], and x, y of it.
            wanted: frames to answer for; the others only take part in the attention between frames.

        Returns:
            Feature (B, F, N, C), the moved position (B, F, N, 2) and the code of its way (B, F, N, C) of the frames
            wanted.
        """
        attended, logits, offsets = self.cross_attn(content + embedding, position, key_value, level_shapes, slots)
        moved, code, travelled = self.move(box, logits, offsets, level_shapes, masks.updated)
        x = add_norm(self.norm1, content, attended)
        embedding = self.update_pos_embed_head(code.to(x.dtype))
        frames = self.temp_self_attn(x, embedding, masks.frames, along=1, tracked=masks.tracked)
        x = add_norm(self.norm_temp, x, frames)
        x, embedding, moved, travelled = (t[:, wanted] for t in (x, embedding, moved, travelled))
        queries = None if masks.queries is None else masks.queries[:, wanted]
        x = add_norm(self.norm2, x, self.self_attn(x, embedding, queries, along=2))
        return add_norm(self.norm3, x, self.linear2(self.linear1(x, relu=True))), moved, travelled


class Decoder(Prepared):
    """The stack of decoder layers and the heads that read them."""

    derived: FusedDecoder | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c, layers = config.channels, config.decoder_layers
        self.layers = modules(DecoderLayer(config) for _ in range(layers))
        self.ref_point_head = MLP(2 * c, c, c)
        self.query_updater = mlp(2 * c, c, c)
        self.ca_update_fuser = mlp(2 * c, c, c, c)
        self.bbox_embed = modules(MLP(c, c, c, 4) for _ in range(layers))
        self.class_embed = modules(Linear(c, 3) for _ in range(layers))
        for head in self.bbox_embed:
            head.start_at_zero()

    def derive(self) -> None:
        """Pack the weights for the fused window, where there is one."""
        self.derived = FusedDecoder.of(self)

    @property
    def reads_memory(self) -> bool:
        """Whether windows are run from the frames' memory, without keys and values; there are no gradients then."""
        return self.derived is not None and active_backend("cpu") == "fused"

    def project(self, memory: Tensor) -> list[Tensor]:
        """memory (R, S, C) -> each layer's keys and values (R, S, M, 2, D)."""
        return [layer.project(memory) for layer in self.layers]

    def forward(
        self, content: Tensor, reference: Tensor, frames: Frames, masks: Masks, wanted: slice | Tensor = EVERY
    ) -> list[LayerOutput]:
        """Run a window.

        Args:
            content: (B, F, N, C) at the window's entry.
            reference: (B, F, N, 4) logits of x, y, w, h.
            frames: what is held of the window's frames.
            masks: who is updated and who attends whom.
            wanted: frames the last layer answers for: all, or one (also as its index (1,) int64).

        Returns:
            One output a layer (from frames' memory: of the last layer alone); the last is the window's result, of the
            frames wanted.
        """
        if frames.memories:
            assert self.derived is not None
            assert isinstance(wanted, slice)
            one = None if wanted == EVERY else wanted.start
            answer = self.derived(content, reference, frames.memories, frames.level_shapes, masks, one, frames.kept)
            return [LayerOutput(*answer)]
        assert frames.slots is not None
        shapes, slots = frames.level_shapes, frames.slots
        entry, outputs = content, []
        if content.is_cuda and not torch.is_grad_enabled():
            if masks.tracked is not None and attends_frames(content, self.layers[0].temp_self_attn.heads):
                masks = replace(masks, frames=None)  # made of `tracked` where it is needed
            masks = masks.additive(content.dtype)
        for i, layer in enumerate(self.layers):
            if i > 0:
                content = content + self.query_updater(torch.cat((content, entry), dim=-1))
            box, position, code = box_code(reference, content)
            embedding = self.ref_point_head(code)
            answered: slice | Tensor = wanted if i == len(self.layers) - 1 else EVERY
            given = content, embedding, box, position, frames.of_layer(i)
            content, moved, travelled = layer(*given, shapes, slots, masks, answered)
            box, reference, updated = box[:, answered], reference[:, answered], masks.updated[:, answered]
            hidden = self.ca_update_fuser(torch.cat((content, travelled.to(content.dtype)), dim=-1))
            reference = refine_boxes(moved, box, reference, updated, self.bbox_embed[i](hidden))
            outputs.append(LayerOutput(moved, reference, self.class_embed[i](hidden).to(box.dtype), hidden))
        return outputs
