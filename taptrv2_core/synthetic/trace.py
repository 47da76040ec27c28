"""What a pixel sees: nearest object by depth test, and the place on it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .scene import BALL, BOX, CARD, LAYER, ROOM, Scene

NEVER = 1e9
WAVE_STEPS = 6


class Tracer:
    """Depth test of every object of a scene; the linear forms it needs are worked out once.

    Depth is compared as a key that grows towards the camera: 1 / z in 3D, in which planes are linear in the pixel;
    the order of the layers in 2D.
    """

    def __init__(self, scene: Scene, shapes: Tensor) -> None:
        self.scene = scene
        self.shapes = shapes
        self.wavy = (scene.bend[..., 0] != 0).any(2).any(0).tolist()
        self.forms = [_forms(kind, scene.back[:, k]) for k, kind in enumerate(scene.kinds)]

    def nearest(self, d: Tensor, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor]:
        """Key and index, each (F, P), of what is seen at d (F or 1, 3, P) in the frames start..stop."""
        scene = self.scene
        frames = slice(start, stop)
        count = scene.pose[frames].shape[0]
        best = d.new_zeros(count, d.shape[2])
        index = torch.zeros(count, d.shape[2], dtype=torch.int64, device=d.device)
        for k, kind in enumerate(scene.kinds):
            form = self.forms[k][frames]
            if kind == ROOM:
                best = _apply(form, d).amax(1)
                continue
            if kind == LAYER and k == 0:
                best = scene.order[frames, :1].expand_as(best).clone()
                continue
            key = self._key(kind, k, form, d, frames)
            better = key > best
            index.masked_fill_(better, k)
            best = torch.maximum(best, key)
        return best, index

    def _key(self, kind: int, k: int, form: Tensor, d: Tensor, frames: slice) -> Tensor:
        if kind == BOX:
            rows = _apply(form, d)
            front, exit_ = rows[:, :3].amin(1), rows[:, 3:].amax(1).clamp_(min=0)
            return front * (front > exit_)
        if kind == BALL:
            b = _linear(form[:, 0], d)
            disc = _linear(form[:, 1], d) * d[:, 0] + _linear(form[:, 2], d) * d[:, 1] + _linear(form[:, 3], d)
            return (b + disc.clamp(min=0).sqrt()) * ((disc > 0) & (b > 0))
        if kind == LAYER:
            rows = _apply(form, d)
            w = rows[:, 2]
            p, q = rows[:, 0] / w, rows[:, 1] / w
            dp, dq = _waves(self.scene.bend[frames, k], p, q)
            hit = self._cut(self.scene.shape[frames, k], p + dp, q + dq) & (w > 0)
            return self.scene.order[frames, k, None] * hit
        return self._card(k, form, d, frames)

    def _card(self, k: int, form: Tensor, d: Tensor, frames: slice) -> Tensor:
        rows = _apply(form, d)
        bend, origin = self.scene.bend[frames, k], self.scene.back[frames, k, :, 3]
        slope = torch.where(rows[:, 2].abs() < 1e-6, 1e-6, rows[:, 2])
        z = -origin[:, 2:] / slope
        p, q = z * rows[:, 0] + origin[:, :1], z * rows[:, 1] + origin[:, 1:2]
        if self.wavy[k]:
            for _ in range(WAVE_STEPS):
                z = (_waves(bend, p, q)[0] - origin[:, 2:]) / slope
                p, q = z * rows[:, 0] + origin[:, :1], z * rows[:, 1] + origin[:, 1:2]
        hit = self._cut(self.scene.shape[frames, k], p, q) & (z > 1e-3)
        return torch.nan_to_num(hit / z, 0.0, 0.0, 0.0)

    def _cut(self, shape: Tensor, p: Tensor, q: Tensor) -> Tensor:
        square = torch.maximum(p.abs(), q.abs()) < 1
        count, side = self.shapes.shape[0], self.shapes.shape[-1]
        edge = 1 - 1 / side
        x = p.clamp(-edge, edge)
        y = (q.clamp(-edge, edge) + (1 - count + 2 * shape.clamp(min=0))[:, None]) / count
        atlas = self.shapes.reshape(1, 1, count * side, side)
        level = grid_sample(atlas, torch.stack((x, y), -1)[None], align_corners=False, padding_mode="border")
        return square & ((level[0, 0] > 0) | (shape < 0)[:, None])


def locate(scene: Scene, d: Tensor, key: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The place on the object seen: (p, q, r) and the depth 1 / z (a layer's w), each (F, P). d is (F or 1, 3, P)."""
    rows = scene.back.flatten(2).transpose(1, 2).contiguous()  # (F, 12, K)

    def row(i: int) -> tuple[Tensor, Tensor]:
        parts = [torch.gather(rows[:, 4 * i + j], 1, index) for j in range(4)]
        return parts[0] * d[:, 0] + parts[1] * d[:, 1] + parts[2], parts[3]

    (a, a0), (b, b0), (c, c0) = row(0), row(1), row(2)
    if not scene.layered:
        z = 1 / key.clamp(min=1e-6)
        return z * a + a0, z * b + b0, z * c + c0, key
    p, q = a / c, b / c
    bend = scene.bend.flatten(2).transpose(1, 2).contiguous()
    dp, dq = torch.zeros_like(p), torch.zeros_like(q)
    for j in range(scene.bend.shape[2]):
        a1, a2, k1, k2, phase = (torch.gather(bend[:, 5 * j + i], 1, index) for i in range(5))
        s = torch.sin(k1 * p + k2 * q + phase)
        dp, dq = dp + a1 * s, dq + a2 * s
    return p + dp, q + dq, torch.zeros_like(p), c


def facing(scene: Scene, index: Tensor, p: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """Which face of the object the place is on, (F, P) int64: 2 * axis + (positive side); cards 4 or 5, layers 4."""
    if scene.layered:
        return torch.full_like(index, 4)
    flat = torch.tensor([kind == CARD for kind in scene.kinds], device=index.device)
    side = 4 + (scene.back[:, :, 2, 3] > 0).long()  # the camera's side of a card's plane
    x, y, z = p.abs(), q.abs(), r.abs()
    solid = torch.where(y > x, 2 + (q > 0).long(), (p > 0).long())
    solid = torch.where(z > torch.maximum(x, y), 4 + (r > 0).long(), solid)
    return torch.where(flat[index], torch.gather(side, 1, index), solid)


def _apply(form: Tensor, d: Tensor) -> Tensor:
    """(F, R, 3) linear forms at d (F or 1, 3, P): (F, R, P)."""
    return form[..., :1] * d[:, None, 0] + form[..., 1:2] * d[:, None, 1] + form[..., 2:3]


def _linear(form: Tensor, d: Tensor) -> Tensor:
    return form[:, :1] * d[:, 0] + form[:, 1:2] * d[:, 1] + form[:, 2:3]


def _waves(bend: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Waves of one object: bend (F, J, 5), p and q (F, P)."""
    dp, dq = torch.zeros_like(p), torch.zeros_like(q)
    for j in range(bend.shape[1]):
        a1, a2, k1, k2, phase = (bend[:, j, i, None] for i in range(5))
        s = torch.sin(k1 * p + k2 * q + phase)
        dp, dq = dp + a1 * s, dq + a2 * s
    return dp, dq


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
