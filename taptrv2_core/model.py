"""The network: frames to memory, queries to content, windows through the decoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.backbone import Backbone
from taptrv2_core.config import ModelConfig
from taptrv2_core.decoder import Decoder
from taptrv2_core.encoder import Encoder, LevelShapes, cell_centres
from taptrv2_core.fast.inference import Fast, folded
from taptrv2_core.fast.prepared import Linear, Prepared
from taptrv2_core.fast.projection import FusedProjection
from taptrv2_core.geometry import sine_code
from taptrv2_core.layers import mlp, modules
from taptrv2_core.ops import active_backend
from taptrv2_core.ops.steps import level_tokens
from taptrv2_core.refine import Refiner
from taptrv2_core.search import Search
from taptrv2_core.window import EVERY, Frames, LayerOutput, Masks

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
KEEPS_ONE_BACKBONE = {"cuda"}
"""Devices whose memory is scarce: of a prepared network the backbone that does not run waits on the host."""


@lru_cache(maxsize=16)  # what a CUDA graph has read must stay
def _normalisation(size: torch.Size, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Shift and scale of every pixel, (3, H, W) with channels last as images come from cameras: broadcasting over
    three channels costs a CPU several times the sum."""
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
        planes = [v.to(device, dtype).expand(*size, 3).contiguous().permute(2, 0, 1) for v in (-mean / std, 1 / std)]
        return planes[0], planes[1]


@dataclass(frozen=True)
class Memory:
    """What the network keeps of frames.

    Attributes:
        tokens: (B, S, C) encoder output, levels one after another, finest first, row by row.
        level_shapes: (height, width) of each level.
    """

    tokens: Tensor
    level_shapes: LevelShapes


class Transformer(nn.Module):
    """Encoder, decoder and the query initialiser, under the names the published state dict has for them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(config.levels, config.channels))
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.query_feature_initializer = Linear(config.levels * config.channels, config.channels)


class Taptr(Prepared):
    """TAPTRv2 (arXiv 2407.16291). Every method takes a batch of videos or cameras first.

    Attributes:
        config: the sizes.
        trained: false until weights have been loaded.
        source: where the weights came from, for messages.
    """

    derived: Fast | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.trained = False
        self.source = "random initialisation"
        c = config.channels
        backbone = Backbone(config)
        self.backbone = modules([backbone])
        self.input_proj = modules(
            nn.Sequential(nn.Conv2d(inputs, c, 1), nn.GroupNorm(32, c)) for inputs in backbone.body.channels
        )
        self.transformer = Transformer(config)
        self.bbox_embed = self.transformer.decoder.bbox_embed
        self.class_embed = self.transformer.decoder.class_embed
        self.query_between_window_updater = mlp(3 * c, c, c)
        self.search = Search(config) if config.search else None
        self.refiner = Refiner() if config.refine else None

    def prepare(self, dtype: torch.dtype | None = None) -> Taptr:
        """Make the network fast for tracking: eval mode, no gradients, another dtype if given; returns itself.

        The state dict keeps its names and shapes. What is derived from the weights is dropped when the network is
        trained, moved, converted or loaded; weights changed in place by other means need another `prepare`.
        """
        self.requires_grad_(False).eval()
        self.backbone.to(self.device)  # type: ignore[attr-defined]
        backbone = folded(self.backbone[0], dtype or self.dtype)  # before the weights are rounded, and
        refiner = self.host_refiner()
        self.to(dtype or self.dtype)
        for module in self.modules():
            if isinstance(module, Prepared) and module is not self:
                module.derive()
        self.derived = Fast(backbone, FusedProjection.of(self.input_proj), refiner)
        if self.device.type in KEEPS_ONE_BACKBONE:
            self.backbone.to("cpu")  # type: ignore[attr-defined]
        return self

    def host_refiner(self) -> Refiner | None:
        """The refiner in float32 on the CPU, where the images are that it works on; None if there is none."""
        if self.derived is not None or self.refiner is None:
            return None if self.derived is None else self.derived.refiner
        refiner = copy.deepcopy(self.refiner).requires_grad_(False).to("cpu", torch.float32).eval()
        refiner.derive()
        return refiner

    @property
    def device(self) -> torch.device:
        """Where the parameters are; a prepared network's backbone is there in the form that runs."""
        return self.transformer.level_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of parameters and features; positions are never less than float32."""
        return self.transformer.level_embed.dtype

    @property
    def position_dtype(self) -> torch.dtype:
        """Type of references, offsets and sampling locations."""
        return torch.promote_types(self.dtype, torch.float32)

    def encode(self, images: Tensor) -> Memory:
        """Memory of frames, each on its own. images (B, 3, H, W) RGB in [0, 1], any size of at least 32 x 32."""
        backbone = self._backbone() if self.derived is None else self.derived.backbone
        images = images.to(self.position_dtype)
        shift, scale = _normalisation(images.shape[-2:], images.dtype, images.device)
        levels = backbone(torch.addcmul(shift, images, scale).to(self.dtype))
        shapes = tuple((int(level.shape[-2]), int(level.shape[-1])) for level in levels)
        tokens = self._project_levels(levels)
        code, reference = self._token_positions(shapes)
        return Memory(self.transformer.encoder(tokens, code, reference, shapes), shapes)

    def _project_levels(self, levels: Sequence[Tensor]) -> Tensor:
        """Features of each level -> tokens (B, S, C), level after level, row by row."""
        fused = None if self.derived is None else self.derived.projection
        if fused is not None and active_backend("cpu") == "fused":
            return fused(levels)
        return level_tokens(self.input_proj, levels)

    def _backbone(self) -> nn.Module:
        """The backbone as it is trained, brought back to the device if `prepare` has put it aside."""
        backbone = self.backbone[0]
        if backbone.body.conv1.weight.device != self.device:
            backbone.to(self.device)
        return backbone

    def _token_positions(self, shapes: LevelShapes) -> tuple[Tensor, Tensor]:
        """Position code plus level embedding (S, C), and reference point (S, 2), of every token."""
        if self.derived is not None and self.derived.positions is not None and self.derived.positions[0] == shapes:
            return self.derived.positions[1]
        like = torch.empty(0, dtype=self.position_dtype, device=self.device)
        reference = cell_centres(shapes, like)
        codes = []
        for (height, width), embedding in zip(shapes, self.transformer.level_embed, strict=True):
            rows, columns = (torch.arange(1, n + 1, device=self.device) for n in (height, width))
            row, column = torch.meshgrid(rows, columns, indexing="ij")
            position = torch.stack((column / (width + 1e-6), row / (height + 1e-6)), dim=-1).to(like.dtype)
            codes.append(sine_code(position, self.config.channels // 2).flatten(0, 1).to(self.dtype) + embedding)
        positions = torch.cat(codes), reference
        if self.derived is not None:
            self.derived.positions = (shapes, positions)
        return positions

    def project(self, memory: Memory) -> list[Tensor]:
        """What each decoder layer needs of frames: keys and values (B, S, M, 2, D)."""
        return self.transformer.decoder.project(memory.tokens)

    def project_into(self, memory: Memory, ring: Sequence[Tensor], slot: int) -> None:
        """Write one frame's keys and values, memory of B = 1, to the first layers' rings (R, S, M, 2, D); no
        gradients."""
        for layer, keys_and_values in zip(self.transformer.decoder.layers, ring, strict=False):
            layer.cross_attn.project_into(memory.tokens[0], keys_and_values[slot])

    def initial_content(self, memory: Memory, position: Tensor) -> Tensor:
        """Content feature of queries: memory of their frame, sampled at (B, N, 2) x, y in [0, 1] -> (B, N, C)."""
        align = self.config.query_align_corners
        grid = (2 * position - 1).unsqueeze(1)
        samples = []
        sizes = [height * width for height, width in memory.level_shapes]
        for level, shape in zip(memory.tokens.split(sizes, dim=1), memory.level_shapes, strict=True):
            level = level.transpose(1, 2).unflatten(-1, shape).to(grid.dtype)
            padding = "zeros" if align else "border"
            samples.append(F.grid_sample(level, grid, align_corners=align, padding_mode=padding).squeeze(2))
        sampled = torch.cat(samples, dim=1).transpose(1, 2).to(memory.tokens.dtype)
        return self.transformer.query_feature_initializer(sampled)  # type: ignore[no-any-return]

    def decode(
        self, content: Tensor, reference: Tensor, frames: Frames, masks: Masks, wanted: slice | Tensor = EVERY
    ) -> list[LayerOutput]:
        """A window through the decoder; see `Decoder.forward`."""
        return self.transformer.decoder(content, reference, frames, masks, wanted)  # type: ignore[no-any-return]

    def content_update(self, initial: Tensor, content: Tensor, hidden: Tensor) -> Tensor:
        """What a committed window adds to the content of its frames; all (B, F, N, C)."""
        return self.query_between_window_updater(torch.cat((initial, content, hidden), dim=-1))  # type: ignore[no-any-return]
