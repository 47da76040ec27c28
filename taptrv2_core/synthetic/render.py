"""Pixels of a scene: trace, look up the texture, and supersample where edges are."""

from __future__ import annotations

import torch
from torch import Tensor

from .atlas import Atlas
from .scene import FACES, Scene
from .shadows import Shadow
from .trace import Boxes, Tracer, facing, locate

CHUNK = {"cpu": 1 << 18, "cuda": 1 << 25}
"""Pixels worked on at once: on a CPU as many as its cache holds."""
SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))


class Frame:
    """Size of the image, and its pixels as d = (x, y, 1) in halves of the larger side from the centre."""

    def __init__(self, height: int, width: int, device: torch.device | str) -> None:
        self.height, self.width = height, width
        self.half = max(height, width) / 2
        x = (torch.arange(width, device=device) - (width - 1) / 2) / self.half
        y = (torch.arange(height, device=device) - (height - 1) / 2) / self.half
        y, x = torch.meshgrid(y, x, indexing="ij")
        self.d = torch.stack((x, y, torch.ones_like(x)))[None]

    def to_pixels(self, d: Tensor) -> Tensor:
        """(..., >= 2) to pixels (..., 2)."""
        centre = torch.tensor([(self.width - 1) / 2, (self.height - 1) / 2], dtype=d.dtype, device=d.device)
        return d[..., :2] * self.half + centre

    def to_rays(self, xy: Tensor) -> Tensor:
        """Pixels (F, P, 2) to d (F, 3, 1, P)."""
        x = (xy[..., 0] - (self.width - 1) / 2) / self.half
        y = (xy[..., 1] - (self.height - 1) / 2) / self.half
        return torch.stack((x, y, torch.ones_like(x)), 1)[:, :, None]


def render(
    tracer: Tracer, atlas: Atlas, frame: Frame, boxes: Tensor, shadow: Shadow | None, antialias: bool
) -> tuple[Tensor, Tensor]:
    """Images (F, 3, H, W) without photometric effects, and the object in each pixel's centre, (F, H, W) int64.

    `boxes` are `scene.image_boxes`, on the CPU.
    """
    count = len(boxes)
    step = max(CHUNK["cpu" if frame.d.device.type == "cpu" else "cuda"] // (frame.height * frame.width), 1)
    video = frame.d.new_empty(count, 3, frame.height, frame.width)
    seen = torch.empty(count, frame.height, frame.width, dtype=torch.int64, device=frame.d.device)
    for start in range(0, count, step):
        stop = min(start + step, count)
        part = boxes[start:stop]
        bounds = torch.stack((part.amin(0), part.amax(0)), -1)  # the smallest top, the largest bottom, ...
        limits = [(b[0][0], b[1][1], b[2][0], b[3][1]) for b in bounds.tolist()]
        shader = Shader(tracer.scene.frames(start, stop), atlas, shadow.frames(start, stop) if shadow else None)
        key, index = tracer.nearest(frame.d, start, stop, limits)
        face, colour = shader.colours(frame.d, key, index)
        image = colour.transpose(0, 1)
        if antialias:
            image = image.contiguous()
            _soften(tracer, shader, frame, image, index * FACES + face, (start, stop), limits)
        video[start:stop], seen[start:stop] = image, index
    return video, seen


class Shader:
    """Colours of what was traced, in some frames of a scene."""

    def __init__(self, scene: Scene, atlas: Atlas, shadow: Shadow | None) -> None:
        self.scene, self.atlas, self.shadow = scene, atlas, shadow
        self.skin = scene.skin.transpose(1, 2).contiguous()  # (F, 8, K * 6)
        self.light = scene.light.transpose(1, 2).contiguous()

    def colours(self, d: Tensor, key: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Face (F, H, W) and colour (3, F, H, W) of what `Tracer.nearest` found at d (F or 1, 3, H, W)."""
        p, q, r, depth = locate(self.scene, d, key, index)
        face = facing(self.scene, index, p, q, r)
        at = (index * FACES + face).flatten(1)
        x, y, su, sv, ou, ov, level, gain = (torch.gather(self.skin[:, i], 1, at).view(p.shape) for i in range(8))
        if self.scene.layered:
            u, v = p, q
        else:
            first, last = (face < 2).to(p.dtype), (face > 3).to(p.dtype)
            u, v = p + (q - p) * first, r + (q - r) * last
            sun = [torch.gather(self.light[:, i], 1, index.flatten(1)).view(p.shape) for i in range(3)]
            gain += (sun[0] * p + sun[1] * q + sun[2] * r).clamp_(min=0)
        if self.shadow:
            gain = self.shadow.apply(d, key, gain)
        level -= torch.log2(depth.clamp(min=1e-6)).mul_(1.5)
        return face, self.atlas.sample(u * su + ou, v * sv + ov, x, y, level) * gain


def _soften(
    tracer: Tracer, shader: Shader, frame: Frame, image: Tensor, label: Tensor, part: tuple[int, int], limits: Boxes
) -> None:
    """Average several rays in the pixels of `image` beside an edge between faces: exact edges at sub-pixel places."""
    flat = _beside_edges(label).flatten(1)
    counts = flat.sum(1)
    most = int(counts.max())
    if most == 0:
        return
    where = flat.nonzero()
    rank = torch.arange(len(where), device=where.device) - (counts.cumsum(0) - counts)[where[:, 0]]
    # frames with fewer edges repeat the last pixel, and what comes of that is not used
    pixel = torch.full((len(flat), most), flat.shape[1] - 1, dtype=torch.int64, device=where.device)
    pixel[where[:, 0], rank] = where[:, 1]
    rows = torch.tensor([box[:2] for box in limits], device=where.device).flatten() * frame.width
    ends = torch.searchsorted(pixel, rows.expand(len(pixel), -1).contiguous())  # pixels are sorted by row
    spans = torch.stack((ends[:, ::2].amin(0), ends[:, 1::2].amax(0)), 1).tolist()
    shift = torch.tensor(SUBPIXELS, device=where.device).T / frame.half
    d = frame.d[0].flatten(1)[:, pixel].transpose(0, 1)[:, :, None].repeat(1, 1, len(SUBPIXELS), 1)
    d[:, :2] += shift[None, :, :, None]
    key, index = tracer.nearest(d, *part, [(0, len(SUBPIXELS), left, right) for left, right in spans])
    colour = shader.colours(d, key, index)[1].mean(2)
    image.flatten(2)[where[:, 0], :, where[:, 1]] = colour[:, where[:, 0], rank].T


def _beside_edges(label: Tensor) -> Tensor:
    """Pixels one of whose four neighbours has another label, (F, H, W)."""
    edge = torch.zeros_like(label, dtype=torch.bool)
    across, along = label[:, :, 1:] != label[:, :, :-1], label[:, 1:] != label[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= along
    edge[:, :-1] |= along
    return edge
