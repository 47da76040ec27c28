"""Optimizer, learning rate, moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from taptrv2_core.model import Taptr
from taptrv2_core.training.stages import Stage

WARM_UP = 100
WEIGHT_DECAY = 1e-4
OFFSETS_FACTOR = 0.1
BACKBONE_FACTOR_PUBLISHED = 0.05


def build_optimizer(model: Taptr) -> torch.optim.AdamW:
    """AdamW; sampling offsets learn at a tenth of the rate, norms, biases and embeddings do not decay.

    The published network's backbone learns at 1e-5 where the rest has 2e-4, as in the paper.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    published = model.config.name == "published"
    for name, parameter in model.named_parameters():
        factor = OFFSETS_FACTOR if "sampling_offsets" in name else 1.0
        if published and name.startswith("backbone"):
            factor = BACKBONE_FACTOR_PUBLISHED
        decay = WEIGHT_DECAY if parameter.ndim > 1 and "level_embed" not in name else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    rows = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    fused = next(model.parameters()).is_cuda  # one kernel, which also knows `found_inf`
    return torch.optim.AdamW(rows, lr=1e-3, betas=(0.9, 0.99), fused=fused)


def learning_rate(stage: Stage, step_in_stage: int, step: int) -> float:
    """Cosine from the stage's first to its last rate; the run's first steps warm up."""
    share = min(step_in_stage / max(stage.steps, 1), 1.0)
    rate = stage.lr_end + (stage.lr_start - stage.lr_end) * 0.5 * (1 + math.cos(math.pi * share))
    return rate * min(1.0, (step + 1) / WARM_UP)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def step_if(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """Step where ``finite`` () holds. On a GPU it decides by itself, and the host goes on with the next step."""
    if finite.is_cuda:
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler tells it
        optimizer.step()
    elif bool(finite):
        optimizer.step()


class MovingAverage:
    """Exponential moving average of a model's parameters; buffers (batch norm's statistics) are copied.

    Args:
        decay: reached as steps go by; early on the average follows more quickly: min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, model: Taptr, decay: float = 0.999) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: Taptr) -> None:
        """Move towards the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        ours, theirs = _tensors(self.model.parameters()), _tensors(model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mine, other in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(other)


def _tensors(parameters: object) -> list[Tensor]:
    return [parameter.detach() for parameter in parameters]  # type: ignore[attr-defined]
