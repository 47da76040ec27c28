"""What a camera does to light: exposure, colour, shadows, blur, noise, compression. Chosen clip by clip."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from .dice import Dice


def photograph(video: Tensor, dice: Dice, source: torch.Generator) -> Tensor:
    """(B, T, 3, H, W) of a clean scene, as a camera would record it; the same storage may be used."""
    clips = video.shape[0]
    for clip in range(clips):
        # Effects that few clips have are applied clip by clip: in place, and nothing is spent on the others.
        view = video[clip]
        if dice.number(0, 1) < 0.35:
            view *= _shadow(dice, view)
        if dice.number(0, 1) < 0.3:
            view.copy_(_defocus(view, max(dice.number(0.4, 1.6) * max(view.shape[-2:]) / 256, 0.3)))
        if dice.number(0, 1) < 0.1:
            view.copy_(view.mean(1, keepdim=True).expand_as(view))
    video = _expose(video, dice)
    for clip in range(clips):
        view = video[clip]
        if dice.number(0, 1) < 0.6:
            _add_noise(view, dice, source)
        if dice.number(0, 1) < 0.3:
            view.copy_(_compress(view, float(dice.log_uniform(0.02, 0.12, 1))))
    return video.mul_(255).round_().div_(255).clamp_(0, 1)


def _on(video: Tensor, values: Tensor) -> Tensor:
    return values.to(video.device, video.dtype)


def _expose(video: Tensor, dice: Dice) -> Tensor:
    """Gain and white balance that drift over the clip, contrast, vignette; clipped as a sensor does."""
    clips, frames, _, height, width = video.shape
    t = torch.linspace(0, 1, frames, dtype=torch.float64)
    drift = dice.normal(clips, 1) * 0.12 * t + dice.normal(clips, 1) * 0.08 * torch.sin(
        t * dice.uniform(2, 9, clips, 1)
    )
    flicker = dice.normal(clips, frames) * 0.03 * dice.chance(0.2, clips, 1)
    gain = torch.exp(dice.normal(clips, 1) * 0.18 + drift + flicker)
    balance = torch.exp(dice.normal(clips, 1, 3) * 0.06 + dice.normal(clips, 1, 3) * 0.03 * t[:, None])
    mean = video.mean((1, 2, 3, 4))
    auto = (0.42 / mean.clamp(min=0.02)).clamp(0.5, 2.5) ** 0.6  # a camera's automatic exposure
    lift = dice.normal(clips, 1, 1) * 0.04
    scale = _on(video, (gain[..., None] * balance))[..., None, None] * auto[:, None, None, None, None]
    x = torch.linspace(-1, 1, width, device=video.device) ** 2 * (width / max(width, height)) ** 2
    y = torch.linspace(-1, 1, height, device=video.device) ** 2 * (height / max(width, height)) ** 2
    dark = _on(video, dice.uniform(0, 0.2, clips, 1, 1, 1, 1) * dice.chance(0.4, clips, 1, 1, 1, 1))
    video = video.mul_(1 - dark * (x + y[:, None])).mul_(scale).add_(_on(video, lift)[..., None, None])
    return video.clamp_(0, 1)


def _shadow(dice: Dice, view: Tensor) -> Tensor:
    """Soft patches of shade that drift across the image, (T, 1, H, W), about 1."""
    frames, _, height, width = view.shape
    cells = dice.integer(3, 8)
    field = dice.normal(1, 1, 2 * cells, 2 * cells).float().to(view.device)
    field = interpolate(field, (32, 32), mode="bicubic", align_corners=False)[0, 0]
    field = torch.sigmoid(field * dice.number(1, 8)) * dice.number(0.15, 0.55)
    t = torch.linspace(0, 1, frames, device=view.device)
    angle, reach = dice.number(0, 2 * math.pi), dice.number(0, 0.5)
    base = torch.linspace(-0.5, 0.5, 32, device=view.device)
    x, y = (base + (t * reach * f(angle))[:, None] for f in (math.cos, math.sin))
    grid = torch.stack((x[:, None].expand(-1, 32, -1), y[:, :, None].expand(-1, -1, 32)), -1)
    low = torch.nn.functional.grid_sample(
        field.expand(frames, 1, -1, -1), grid, align_corners=False, padding_mode="border"
    )
    return 1 - interpolate(low, (height, width), mode="bilinear", align_corners=False)


def _defocus(view: Tensor, sigma: float) -> Tensor:
    """Gaussian blur. Weighted sums of shifted copies: a convolution of one channel is several times slower on a CPU."""
    reach = math.ceil(2.5 * sigma)
    weights = [math.exp(-((i / sigma) ** 2) / 2) for i in range(-reach, reach + 1)]
    weights = [w / sum(weights) for w in weights]
    for axis in (-1, -2):
        size = view.shape[axis]
        margin = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        wide = pad(view, margin, mode="replicate")
        out = wide.narrow(axis, 0, size) * weights[0]
        for i, weight in enumerate(weights[1:], start=1):
            out.add_(wide.narrow(axis, i, size), alpha=weight)
        view = out
    return view


def _add_noise(view: Tensor, dice: Dice, source: torch.Generator) -> None:
    sigma = float(dice.log_uniform(0.004, 0.05, 1))
    noise = torch.randn(view.shape, generator=source, device=view.device, dtype=view.dtype)
    if dice.number(0, 1) < 0.3:  # noise of cheap cameras is coarser
        noise[..., 1:] += noise[..., :-1].clone()
        noise[..., 1:, :] += noise[..., :-1, :].clone()
        noise *= 0.5
    view.add_(noise.mul_(sigma)).clamp_(0, 1)


def _compress(view: Tensor, step: float) -> Tensor:
    """Quantise the cosine transform of 8 x 8 blocks, coarser at high frequencies, as JPEG and its kin do."""
    height, width = view.shape[-2:]
    full = pad(view, (0, -width % 8, 0, -height % 8), mode="replicate")
    i = torch.arange(8, device=view.device, dtype=view.dtype)
    basis = torch.cos((2 * i + 1) * i[:, None] * math.pi / 16) * 0.5
    basis[0] /= math.sqrt(2)
    table = (step * (1 + 0.6 * (i[:, None] + i)))[:, None]  # (8, 1, 8)
    rows = full.shape[-1] // 8
    blocks = (basis @ full.reshape(-1, 8, rows * 8)).view(-1, 8, rows, 8) @ basis.T  # down, then across
    blocks = (blocks.div_(table).round_().mul_(table) @ basis).view(-1, 8, rows * 8)
    return (basis.T @ blocks).view(full.shape)[..., :height, :width].clamp(0, 1)
