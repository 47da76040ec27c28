"""Choice of the points to track, their exact tracks, and when they are seen."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .config import ClipConfig
from .render import Frame
from .scene import CARD, Scene, project
from .trace import Tracer, card_side, facing, locate

CANDIDATES = 4
"""Random pixels looked at in every frame, times the number of points."""
REACH = 4.0
"""Places farther outside than this many image sizes are clamped."""
MARGIN = 1e-3
"""Pixels from the image's border within which no query lies."""
SAME_DEPTH = 1e-3
"""Relative difference in depth below which a surface is the point's own."""


def choose(
    config: ClipConfig, tracer: Tracer, frame: Frame, video: Tensor, seen: Tensor, source: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points on what is visible in random frames: on objects rather than on the background, near edges, on texture.

    Args:
        video: (B, T, 3, H, W); seen: (B, T, H, W) objects in the pixels.

    Returns: query frame (B, N), object (B, N), pixel (B, N, 2) in the query frame, depth key there (B, N).
    """
    clips, frames = video.shape[:2]
    size = torch.tensor([frame.width, frame.height], device=video.device)
    count = CANDIDATES * config.points if frames > 1 else 4 * CANDIDATES * config.points
    draw = torch.rand(clips * frames, count, 2, generator=source, device=video.device)
    xy = draw * (size - 2 * MARGIN) + (MARGIN - 0.5)
    key, index = (x.view(clips, frames, count) for x in tracer.nearest(frame.to_rays(xy)))
    xy = xy.view(clips, frames, count, 2)
    pixel = (xy + 0.5).long().clamp_(min=0).minimum(size - 1)
    weight = _object_weight(index, len(tracer.scene.kinds))
    weight = weight * (0.1 + _contrast(video, xy)) * (1 + 0.7 * _edge(seen, pixel, index))
    # half of the points (or as asked) start in frame 0, the others anywhere
    per_frame = weight.sum(2, keepdim=True)
    share = torch.full((1, frames, 1), (1 - config.first_frame_share) / frames, device=video.device)
    share[:, 0] += config.first_frame_share
    weight = (weight / per_frame * share).flatten(1)
    noise = torch.rand(weight.shape, generator=source, device=video.device).clamp_(1e-12, 1 - 1e-7)
    pick = (
        (weight.clamp(min=1e-30).log() - (-noise.log()).log()).topk(config.points, dim=1).indices
    )  # Gumbel: no repeats
    query = pick // count
    chosen = torch.gather(xy.flatten(1, 2), 1, pick[..., None].expand(-1, -1, 2))
    return query, torch.gather(index.flatten(1), 1, pick), chosen, torch.gather(key.flatten(1), 1, pick)


def _object_weight(index: Tensor, objects: int) -> Tensor:
    """Small objects get more points than their area, the background (0) less."""
    area = torch.zeros(*index.shape[:2], objects, device=index.device)
    area.scatter_add_(2, index, torch.ones_like(index, dtype=area.dtype))
    weight = torch.gather(area.clamp(min=4), 2, index) ** -0.7
    return weight * torch.where(index == 0, 0.8, 1.0)


def _contrast(video: Tensor, xy: Tensor) -> Tensor:
    """How much the image varies about the candidates, 0 to 1, (B, T, P)."""
    height, width = video.shape[-2:]
    grey = video.mean(2).flatten(0, 1)[:, None]
    size = torch.tensor([width, height], device=xy.device)
    grid = ((xy.flatten(0, 1) * 2 + 1) / size - 1)[:, None]
    steps = torch.tensor([[2.0, 0], [-2, 0], [0, 2], [0, -2]], device=xy.device) * 2 / size
    around = torch.cat([grid_sample(grey, grid + s, align_corners=False, padding_mode="border") for s in steps], 1)
    spread = around.amax(1) - around.amin(1)
    return (spread[:, 0] / 0.08).clamp(max=1).unflatten(0, video.shape[:2])


def _edge(seen: Tensor, pixel: Tensor, index: Tensor) -> Tensor:
    """Whether another object is within three pixels, (B, T, P)."""
    height, width = seen.shape[-2:]
    near = torch.zeros_like(index, dtype=torch.bool)
    for dx, dy in ((3, 0), (-3, 0), (0, 3), (0, -3)):
        x, y = (pixel[..., 0] + dx).clamp(0, width - 1), (pixel[..., 1] + dy).clamp(0, height - 1)
        near |= torch.gather(seen.flatten(2), 2, y * width + x) != index
    return near.float()


def follow(
    config: ClipConfig, exact: Scene, tracer: Tracer, frame: Frame, chosen: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Exact tracks.

    Args:
        exact: the scene in float64; chosen: what `choose` returned.

    Returns: xy (B, T, N, 2) float32, visible (B, T, N), inside (B, T, N).
    """
    query, index, xy, key = chosen
    clips, frames = len(query), config.frames
    place, face = _anchor(exact, frame, query, index, xy, key, frames)
    everywhere = index.repeat_interleave(frames, 0)
    d, key = project(exact, everywhere, place.repeat_interleave(frames, 0))
    size = torch.tensor([frame.width, frame.height], dtype=d.dtype, device=d.device)
    track = torch.minimum(torch.maximum(frame.to_pixels(d), -REACH * size), (1 + REACH) * size)
    inside = ((track >= -0.5) & (track < size - 0.5)).all(-1) & (key > 0)
    nearest = tracer.nearest(d.transpose(1, 2).float()[:, :, None])[0][:, 0]
    visible = inside & (nearest <= key.float() * (1 + SAME_DEPTH))
    card = torch.tensor([kind == CARD for kind in exact.kinds], device=index.device)[everywhere]
    other_side = card_side(exact, everywhere) != face.repeat_interleave(frames, 0)
    visible &= ~(card & other_side)  # the back of a card is another surface
    shape = (clips, frames, -1)
    visible.view(shape).scatter_(1, query[:, None], True)  # each was the nearest there, whatever rounding says now
    return track.float().view(*shape, 2), visible.view(shape), inside.view(shape)


def _anchor(
    exact: Scene, frame: Frame, query: Tensor, index: Tensor, xy: Tensor, key: Tensor, frames: int
) -> tuple[Tensor, Tensor]:
    """Places (B, N, 3) on the objects and faces (B, N) of what is seen at xy, at depth key, in the query frames."""
    clips, points = query.shape
    at = (torch.arange(clips, device=query.device)[:, None] * frames + query).flatten()
    scene = exact.take(at)
    d = frame.to_rays(xy.double().reshape(-1, 1, 2))
    flat = index.reshape(-1, 1, 1)
    p, q, r, _ = locate(scene, d, key.double().reshape(-1, 1, 1), flat)
    face = facing(scene, flat, p, q, r)
    return torch.cat((p, q, r), -1).view(clips, points, 3), face.view(clips, points)
