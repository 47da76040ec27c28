"""Optical flow as the tracker has it between frames, imitated from the truth while training.

The tracker begins a new frame where Lucas-Kanade moved a point since the last (`taptrv2_core.motion`). Running that
while training would take images to the host and back; errors drawn at random like its own do as well, on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from taptrv2_core.geometry import UNIT
from taptrv2_core.training.losses import Truth

REACH = 48.0
"""Pixels at 256 x 256 a frame at which flow no longer finds a point."""
ROUGH = 0.2
"""Share of the steps whose error is the larger one."""
ERRORS = (0.2, 2.0)
"""Standard deviations of the error of a step in pixels, usually and sometimes."""
CARRIED = (0.3, 4.0)
"""How often a hidden point is carried off by what covers it, and how far a step (standard deviation in pixels)."""


@torch.no_grad()
def imitated_flow(truth: Truth) -> Tensor:
    """By how much flow has moved each point up to each frame, (B, T, N, 2) as a share of the image.

    0 until the query's own frame. Between two frames that show the point it is its true motion with an error, or
    nothing (the faster, the more often flow fails); otherwise nothing, or a random step.
    """
    motion = truth.position.diff(dim=1)
    seen = truth.visible[:, 1:] & truth.visible[:, :-1]
    draw = torch.rand(seen.shape, device=motion.device)
    chance = (1 - torch.linalg.vector_norm(motion * UNIT, dim=-1) / REACH).clamp(0.3, 0.95)
    rough = torch.rand(seen.shape, device=motion.device) < ROUGH
    noise = torch.randn_like(motion) / UNIT
    error = noise * torch.where(rough, ERRORS[1], ERRORS[0]).unsqueeze(-1)
    found = torch.where((seen & (draw < chance)).unsqueeze(-1), motion + error, 0)
    carried = ~seen & (draw < CARRIED[0])
    step = torch.where(carried.unsqueeze(-1), noise * CARRIED[1], found)
    frames = torch.arange(1, truth.visible.shape[1], device=motion.device)[None, :, None]
    step = torch.where((frames > truth.start[:, None]).unsqueeze(-1), step, 0)
    total = step.cumsum(1)
    return torch.cat((torch.zeros_like(total[:, :1]), total), dim=1)
