"""Blur along the motion of what each pixel shows, centred on the frame's instant, so that tracks stay exact."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, max_pool2d

from .render import Frame
from .scene import project
from .trace import Tracer, locate

STRIDE = 4
TAPS = 7
LONGEST = 0.2
"""Longest smear in halves of the image's larger side."""


def blur(video: Tensor, tracer: Tracer, frame: Frame, start: int, shutter: float) -> None:
    """Blur a clip in place.

    Args:
        video: (T, 3, H, W), the frames start .. start + T of the tracer's scene.
        shutter: share of the time between frames in which the shutter is open.
    """
    height, width = video.shape[-2:]
    motion = velocity(tracer, frame, start, start + len(video)) * shutter
    length = torch.linalg.vector_norm(motion, dim=1, keepdim=True)
    longest = float(length.max()) * frame.half
    if longest < 0.7:  # of a pixel: nothing to be seen
        return
    taps = TAPS if longest > 5 else 4
    motion = _spread(motion * (LONGEST / length.clamp(min=LONGEST)))  # a few taps cannot smear farther
    motion = interpolate(motion, (height, width), mode="bilinear", align_corners=False)
    motion = motion.permute(0, 2, 3, 1).contiguous()
    to_grid = frame.half * 2 / torch.tensor([width, height], device=video.device)
    base = (frame.to_pixels(frame.d[0].permute(1, 2, 0)) * 2 + 1) / torch.tensor(
        [width, height], device=video.device
    ) - 1
    total = torch.zeros_like(video)
    for tap in range(taps):
        grid = torch.addcmul(base, motion, to_grid * (tap / (taps - 1) - 0.5))
        total += grid_sample(video, grid, align_corners=False, padding_mode="border")
    torch.div(total, taps, out=video)


def velocity(tracer: Tracer, frame: Frame, start: int, stop: int) -> Tensor:
    """Shift of what is seen from one frame to the next, (T, 2, h, w) in units of d on a grid coarser by STRIDE."""
    d = frame.d[:, :, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    scene = tracer.scene.frames(start, stop)
    count = stop - start
    key, index = tracer.nearest(d, start, stop)
    place = torch.stack(locate(scene, d, key, index)[:3], -1)
    step = torch.arange(count, device=d.device)
    ends = [
        project(scene.take((step + by).clamp(0, count - 1)), index.flatten(1), place.flatten(1, 2), steps=8)[0]
        for by in (-1, 1)
    ]
    span = ((step + 1).clamp(max=count - 1) - (step - 1).clamp(min=0)).clamp(min=1)
    shift = (ends[1] - ends[0])[..., :2] / span[:, None, None]
    shift = torch.nan_to_num(shift).clamp(-0.5, 0.5)
    return shift.transpose(1, 2).reshape(count, 2, *d.shape[2:])


def _spread(motion: Tensor) -> Tensor:
    """Each cell takes the largest motion among its neighbours': a fast object's blur reaches beyond its outline."""
    _, at = max_pool2d(motion.square().sum(1, keepdim=True), 3, 1, 1, return_indices=True)
    return torch.gather(motion.flatten(2), 2, at.flatten(2).expand(-1, 2, -1)).view(motion.shape)
