"""What a pixel sees: nearest object by depth test, and the place on it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .scene import BALL, BOX, CARD, LAYER, ROOM, Scene

Boxes = list[tuple[int, int, int, int]]
NEVER = 1e9
WAVE_STEPS = 4
WAVE_GAP = 1e-4
"""Rays that end farther than this from a wavy card, in halves of it, graze a fold and count as misses."""


class Tracer:
    """Depth test of every object of a scene; the linear forms it needs are worked out once.

    Depth is compared as a key that grows towards the camera: 1 / z in 3D, in which planes are linear in the pixel;
    the order of the layers in 2D.
    """

    def __init__(self, scene: Scene, shapes: Tensor) -> None:
        self.scene = scene
        self.shapes = shapes
        self.wavy = [kind == LAYER or k == scene.cloth for k, kind in enumerate(scene.kinds)]
        self.forms = [_forms(kind, scene.back[:, k]) for k, kind in enumerate(scene.kinds)]

    def nearest(
        self, d: Tensor, start: int = 0, stop: int | None = None, boxes: Boxes | None = None
    ) -> tuple[Tensor, Tensor]:
        """What is seen at d in the frames start..stop.

        Args:
            d: (F or 1, 3, H, W), any grid or list of places.
            boxes: for every object the part (top, bottom, left, right) of the grid outside of which it cannot be.

        Returns: key and index, each (F, H, W).
        """
        scene = self.scene
        frames = slice(start, stop)
        count = scene.pose[frames].shape[0]
        best = d.new_zeros(count, *d.shape[2:])
        index = torch.zeros(best.shape, dtype=torch.int64, device=d.device)
        for k, kind in enumerate(scene.kinds):
            form = self.forms[k][frames]
            if kind == ROOM:
                for row in range(form.shape[1]):
                    torch.maximum(best, _linear(form[:, row], d), out=best)
                continue
            if kind == LAYER and k == 0:
                best += scene.order[frames, 0, None, None]
                continue
            top, bottom, left, right = boxes[k] if boxes else (0, d.shape[2], 0, d.shape[3])
            if top >= bottom or left >= right:
                continue
            key = self._key(kind, k, form, d[:, :, top:bottom, left:right], frames)
            part = best[:, top:bottom, left:right]
            index[:, top:bottom, left:right].masked_fill_(key > part, k)
            torch.maximum(part, key, out=part)
        return best, index

    def _key(self, kind: int, k: int, form: Tensor, d: Tensor, frames: slice) -> Tensor:
        if kind == BOX:
            return _box_key(form, d)
        if kind == BALL:
            b = _linear(form[:, 0], d)
            disc = _linear(form[:, 1], d).mul_(d[:, 0])
            disc += _linear(form[:, 2], d).mul_(d[:, 1])
            disc += form[:, 3, 2, None, None]
            hit = disc > 0
            key = disc.clamp_(min=0).sqrt_().add_(b)
            return key.masked_fill_(~hit.logical_and_(b > 0), 0)
        if kind == LAYER:
            w = _linear(form[:, 2], d)
            p, q = _linear(form[:, 0], d).div_(w), _linear(form[:, 1], d).div_(w)
            dp, dq = _waves(self.scene.bend[frames, k], p, q)
            hit = self._cut(self.scene.shape[frames, k], p.add_(dp), q.add_(dq)).logical_and_(w > 0)
            return hit * self.scene.order[frames, k, None, None]
        return self._card(k, form, d, frames)

    def _card(self, k: int, form: Tensor, d: Tensor, frames: slice) -> Tensor:
        origin = self.scene.back[frames, k, :, 3, None, None]
        slope = _linear(form[:, 2], d)
        slope.masked_fill_(slope.abs() < 1e-6, 1e-6)
        along, down = _linear(form[:, 0], d), _linear(form[:, 1], d)
        z = -origin[:, 2] / slope
        p, q = along * z + origin[:, 0], down * z + origin[:, 1]
        on_surface = z > 1e-3
        if self.wavy[k]:
            z, gap = _meet_waves(self.scene.bend[frames, k], origin, along, down, slope, z)
            p, q = along * z + origin[:, 0], down * z + origin[:, 1]
            on_surface = (z > 1e-3).logical_and_(gap < WAVE_GAP)
        hit = self._cut(self.scene.shape[frames, k], p, q).logical_and_(on_surface)
        return z.reciprocal_().masked_fill_(hit.logical_not_(), 0)

    def _cut(self, shape: Tensor, p: Tensor, q: Tensor) -> Tensor:
        """Whether places of a card are part of it: within the square, and within the outline if there is one."""
        hit = torch.maximum(p.abs(), q.abs()) < 1
        count, side = self.shapes.shape[0], self.shapes.shape[-1]
        edge = 1 - 1 / side
        grid = torch.empty(*p.shape, 2, device=p.device, dtype=p.dtype)
        torch.clamp(p, -edge, edge, out=grid[..., 0])
        grid[..., 1] = q.clamp(-edge, edge).add_((1 - count + 2 * shape.clamp(min=0))[:, None, None]).div_(count)
        atlas = self.shapes.reshape(1, 1, count * side, side)
        level = grid_sample(atlas, grid.flatten(0, 1)[None], align_corners=False, padding_mode="border")
        return hit.logical_and_((level.view(p.shape) > 0).logical_or_((shape < 0)[:, None, None]))


def locate(scene: Scene, d: Tensor, key: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The place on the object seen, (p, q, r), and 1 / depth (a layer's w), each (F, H, W), as key and index are; d is
    (F or 1, 3, H, W)."""
    shape, flat = index.shape, index.flatten(1)
    rows = scene.back.flatten(2).transpose(1, 2).contiguous()  # (F, 12, K)

    def part(table: Tensor, i: int) -> Tensor:
        return torch.gather(table[:, i], 1, flat).view(shape)

    def row(i: int) -> Tensor:
        return torch.addcmul(part(rows, 4 * i).mul_(d[:, 0]), part(rows, 4 * i + 1), d[:, 1]).add_(
            part(rows, 4 * i + 2)
        )

    a, b, c = row(0), row(1), row(2)
    if not scene.layered:
        z = 1 / key.clamp(min=1e-6)
        p, q, r = (torch.addcmul(part(rows, 4 * i + 3), v, z) for i, v in enumerate((a, b, c)))
        return p, q, r, key
    p, q = a / c, b / c
    bend = scene.bend.flatten(2).transpose(1, 2).contiguous()
    dp, dq = torch.zeros_like(p), torch.zeros_like(q)
    for j in range(scene.bend.shape[2]):
        s = torch.addcmul(part(bend, 5 * j + 2).mul_(p), part(bend, 5 * j + 3), q).add_(part(bend, 5 * j + 4)).sin_()
        dp.addcmul_(part(bend, 5 * j), s)
        dq.addcmul_(part(bend, 5 * j + 1), s)
    return dp.add_(p), dq.add_(q), torch.zeros_like(p), c


def facing(scene: Scene, index: Tensor, p: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """Which face of the object the place is on, all (F, H, W): 2 * axis + (positive side); cards 4 or 5, layers 4."""
    if scene.layered:
        return torch.full_like(index, 4)
    first_card = next((k for k, kind in enumerate(scene.kinds) if kind == CARD), len(scene.kinds))
    x, y, z = p.abs(), q.abs(), r.abs()
    face = (p > 0).long()
    face = torch.where(y > x, 2 + (q > 0).long(), face)
    face = torch.where(z > torch.maximum(x, y), 4 + (r > 0).long(), face)
    side = card_side(scene, index.flatten(1)).view(index.shape)
    return torch.where(index >= first_card, side, face)


def card_side(scene: Scene, index: Tensor) -> Tensor:
    """The face of a card's plane (4 or 5) that the camera is before, (F, P)."""
    return torch.gather(4 + (scene.back[:, :, 2, 3] > 0).long(), 1, index)


def _linear(form: Tensor, d: Tensor) -> Tensor:
    """A linear form of each frame, (F, 3), at d (F or 1, 3, H, W): (F, H, W)."""
    form = form[:, :, None, None]
    out = form[:, 0] * d[:, 0]
    return torch.addcmul(out, form[:, 1], d[:, 1], out=out).add_(form[:, 2])


def _box_key(form: Tensor, d: Tensor) -> Tensor:
    front = _linear(form[:, 0], d)
    for row in (1, 2):
        torch.minimum(front, _linear(form[:, row], d), out=front)
    leave = _linear(form[:, 3], d).clamp_(min=0)
    for row in range(4, form.shape[1]):
        torch.maximum(leave, _linear(form[:, row], d), out=leave)
    return front.masked_fill_(front <= leave, 0)


def _waves(bend: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Waves of one object: bend (F, J, 5), p and q (F, H, W)."""
    dp, dq = torch.zeros_like(p), torch.zeros_like(q)
    for j in range(bend.shape[1]):
        a1, a2, k1, k2, phase = (bend[:, j, i, None, None] for i in range(5))
        s = torch.addcmul(k1 * p, k2, q).add_(phase).sin_()
        dp.addcmul_(a1, s)
        dq.addcmul_(a2, s)
    return dp, dq


def _meet_waves(
    bend: Tensor, origin: Tensor, along: Tensor, down: Tensor, slope: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Depth z at which rays meet a wavy card, by Newton's method from its plane's, and how far off they end."""
    for step in range(WAVE_STEPS + 1):
        p, q, gap = along * z + origin[:, 0], down * z + origin[:, 1], slope * z + origin[:, 2]
        rate = slope.clone()
        for j in range(bend.shape[1]):
            size, _, k1, k2, phase = (bend[:, j, i, None, None] for i in range(5))
            angle = torch.addcmul(k1 * p, k2, q).add_(phase)
            gap.addcmul_(size, angle.sin(), value=-1)
            if step < WAVE_STEPS:
                rate.addcmul_(angle.cos_(), torch.addcmul(along * k1, k2, down).mul_(size), value=-1)
        if step < WAVE_STEPS:
            z = z - gap / rate
    return z, gap.abs_()


def _forms(kind: int, back: Tensor) -> Tensor:
    """Linear forms of an object, (F, R, 3), from back (F, 3, 4)."""
    turn, origin = back[..., :3], back[..., 3]
    if kind == ROOM:
        return torch.cat((turn / (1 - origin)[..., None], turn / (-1 - origin)[..., None]), 1)
    if kind == BOX:
        return _box_forms(turn, origin)
    if kind == BALL:
        return _ball_forms(turn, origin)
    return turn


def _box_forms(turn: Tensor, origin: Tensor) -> Tensor:
    """Keys of three front and six back planes. Seen from beyond a face, its plane is where rays enter; seen from
    between two opposite faces there is no such plane, and both are where rays leave."""
    plus, minus = turn / (1 - origin)[..., None], turn / (-1 - origin)[..., None]
    above, below = (origin > 1)[..., None], (origin < -1)[..., None]
    none = torch.zeros_like(turn)
    none[..., 2] = NEVER
    none = none * (origin.abs().amax(-1) > 1)[:, None, None]  # inside the box: nothing is seen of it
    front = torch.where(above, plus, torch.where(below, minus, none))
    one, other = torch.where(above, minus, plus), torch.where(below, plus, minus)
    return torch.cat((front, one, other), 1)


def _ball_forms(turn: Tensor, origin: Tensor) -> Tensor:
    """b and the quadratic form of the discriminant, both over C, so that the key is b + sqrt(disc)."""
    c = (origin * origin).sum(-1, keepdim=True) - 1
    outside = (c > 1e-4).to(c.dtype)
    b = -(turn.transpose(1, 2) @ origin[..., None])[..., 0] / c
    form = b[:, :, None] * b[:, None, :] - (turn.transpose(1, 2) @ turn) / c[..., None]
    upper = torch.stack((
        torch.stack((form[:, 0, 0], form[:, 0, 1], form[:, 0, 2] * 2), -1),
        torch.stack((form[:, 0, 1], form[:, 1, 1], form[:, 1, 2] * 2), -1),
        torch.stack((torch.zeros_like(form[:, 0, 0]), torch.zeros_like(form[:, 0, 0]), form[:, 2, 2]), -1),
    ), 1)  # fmt: skip
    return torch.cat((b[:, None], upper), 1) * outside[..., None]
