"""One training step's forward pass: clips in, loss out; the module that DistributedDataParallel wraps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from taptrv2_core.model import Taptr
from taptrv2_core.training.contrast import contrastive_loss
from taptrv2_core.training.flow import imitated_flow
from taptrv2_core.training.losses import LossWeights, Truth, start_positions, track_loss
from taptrv2_core.training.refining import refine_loss
from taptrv2_core.training.searching import search_loss
from taptrv2_core.training.stages import Stage
from taptrv2_core.training.unroll import commit_ends, encode_clips, unroll

SEARCHED = 3
"""Frames of a clip in which the search learns beside everything else; alone it learns in all."""


class TrainingStep(nn.Module):
    """The network with its losses."""

    def __init__(self, model: Taptr, weights: LossWeights | None = None) -> None:
        super().__init__()
        self.model = model
        self.weights = weights or LossWeights()

    def forward(self, video: Tensor, truth: Truth, stage: Stage, bf16: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its parts. Random choices (provisional windows, negatives) come from torch's generator."""
        with torch.autocast(video.device.type, torch.bfloat16, enabled=bf16):
            loss, parts = video.new_zeros(()), {}
            if stage.refine > 0 and self.model.refiner is not None:
                refine = refine_loss(self.model.refiner, video, truth)
                loss, parts["refine"] = loss + stage.refine * refine, refine.detach()
            if stage.beside and stage.search == 0:
                return loss, parts
            with torch.set_grad_enabled(torch.is_grad_enabled() and not stage.beside):
                encoded = encode_clips(self.model, video)
            if stage.search > 0 and self.model.search is not None:
                frames = None if stage.beside else SEARCHED
                search = search_loss(self.model, encoded, truth, frames)
                loss, parts["search"] = loss + stage.search * search, search.detach()
            if stage.contrast > 0:
                contrast = contrastive_loss(self.model, encoded, truth)
                loss, parts["contrast"] = loss + stage.contrast * contrast, contrast.detach()
            if stage.tracking > 0:
                provisional = choose_provisional(stage, self.model.config.window)
                flow = imitated_flow(truth) if self.model.config.motion == "flow" else None
                start = start_positions(truth)
                windows = unroll(self.model, encoded, truth.start, start, provisional, flow=flow, starts=truth.starts)
                tracking, more = track_loss(windows, truth, self.weights)
                loss = loss + stage.tracking * tracking
                parts.update(more)
        return loss, parts


def choose_provisional(stage: Stage, window: int) -> list[int]:
    """Random newest frames of provisional windows; clips shorter than a window always run one at their end."""
    commits = commit_ends(stage.frames, window)
    others = [t for t in range(1, stage.frames) if t not in commits]
    order = torch.randperm(len(others))[: stage.provisional].tolist()
    chosen = [others[i] for i in order]
    return chosen if commits else [*chosen, stage.frames - 1]


@torch.no_grad()
def settle_batch_norm(model: Taptr, videos: Iterable[Tensor], bf16: bool) -> None:
    """Measure batch norms' statistics anew, as plain means over videos (B, T, 3, H, W), every third frame of each.

    Their running averages follow the last few steps alone, too few clips to be frozen.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for video in videos:
        with torch.autocast(video.device.type, torch.bfloat16, enabled=bf16):
            model.encode(video[:, ::3].flatten(0, 1))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def set_training_mode(model: Taptr, freeze_batch_norm: bool) -> None:
    """Training mode, except for batch norms' statistics where they are frozen."""
    model.train()
    if freeze_batch_norm:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
