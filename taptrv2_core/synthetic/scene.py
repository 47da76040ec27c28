"""A batch of scenes as tensors: posed unit objects, what they look like, and where their points are.

Every object is a unit shape with an affine pose: the room and the boxes are the cube [-1, 1]^3, the balls (ellipsoids)
the unit ball, cards the square [-1, 1]^2 at r = 0 cut out by a shape, layers the same square under a homography.
An object's own coordinates are q = (p, q, r). A pixel is d = (x, y, 1) with x, y measured from the image's centre in
halves of its larger side. A pose maps q to X with the pixel at X / X_3; the intrinsics are part of the pose.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

ROOM, BOX, BALL, CARD, LAYER = range(5)
FACES = 6
UNBEND_STEPS = 40
SKIN = ("x", "y", "su", "sv", "ou", "ov", "level", "gain")
"""What is known of a face's texture: the tile's corner in the atlas, texels per unit of the object's coordinates,
offset, what to add to the mip level, brightness."""


@dataclass
class Scene:
    """F = B * T frames of B clips, K objects in each; float64 on the CPU when built."""

    kinds: tuple[int, ...]
    """(K,) what the objects are, in this order; the same in all clips of the batch. In 3D the last card is the cloth:
    the only one with waves."""
    pose: Tensor
    """(F, K, 3, 4): q to X. Of a layer the columns are p, q, (unused), 1."""
    back: Tensor
    """(F, K, 3, 4): q = z * back[:3] d + back[3] with z the depth. Of a layer (p w, q w, w) = back[:3] d."""
    order: Tensor
    """(F, K): which layer is in front: the larger; unused in 3D, where 1 / z is compared."""
    bend: Tensor
    """(F, K, J, 5): waves (a1, a2, k1, k2, phase). Of a layer: the shift of p and q, added when going from the image to
    the object. Of a card: a1 is the height above the plane, a2 unused."""
    shape: Tensor
    """(F, K): index of the cut-out; negative: the whole square, of a layer the whole plane."""
    skin: Tensor
    """(F, K * 6, 8): see SKIN. Boxes, rooms and balls have six faces, 2 * axis + (positive side); cards have the last
    two, layers the last but one."""
    light: Tensor
    """(F, K, 3): shading of balls, gain + max(0, light . q)."""
    sun_pose: Tensor
    """(F, K - 1, 3, 4): q to the X of an eye at the sun, of all objects but the room; (F, 0, 3, 4): no shadows."""
    to_sun: Tensor
    """(F, 3, 4): X of the camera to X of the sun."""
    ambient: Tensor
    """(F,): brightness in full shade."""

    @property
    def layered(self) -> bool:
        """Whether this is a layered 2D scene."""
        return self.kinds[0] == LAYER

    @property
    def cloth(self) -> int:
        """The card that waves, -1 if there is none."""
        return len(self.kinds) - 1 if self.kinds[-1] == CARD else -1

    def tensors(self) -> list[Tensor]:
        """The tensors, all (F, ...), in the order of the fields."""
        return [getattr(self, f.name) for f in fields(self) if f.name != "kinds"]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Scene:
        """A copy elsewhere."""
        return Scene(self.kinds, *(t.to(device, dtype) for t in self.tensors()))

    def take(self, which: Tensor) -> Scene:
        """The frames with these numbers."""
        return Scene(self.kinds, *(t[which] for t in self.tensors()))

    def frames(self, start: int, stop: int) -> Scene:
        """Some of the frames."""
        return Scene(self.kinds, *(t[start:stop] for t in self.tensors()))


def waves(bend: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the waves at (p, q). bend (..., J, 5) broadcasts against p[..., None]."""
    s = torch.sin(bend[..., 2] * p[..., None] + bend[..., 3] * q[..., None] + bend[..., 4])
    return (bend[..., 0] * s).sum(-1), (bend[..., 1] * s).sum(-1)


def project(scene: Scene, index: Tensor, place: Tensor, steps: int = UNBEND_STEPS) -> tuple[Tensor, Tensor]:
    """Where points of objects are in the image.

    Args:
        scene: F frames.
        index: (F, N) objects.
        place: (F, N, 3) their own coordinates.
        steps: of the iteration that inverts a layer's waves.

    Returns: d (F, N, 3) as (x, y, 1), and the depth key (F, N): larger is nearer, not positive is behind the camera.
    """
    pose = torch.gather(scene.pose.flatten(2), 1, index[..., None].expand(-1, -1, 12)).unflatten(-1, (3, 4))
    size = scene.bend.shape[2] * 5
    bend = torch.gather(scene.bend.flatten(2), 1, index[..., None].expand(-1, -1, size)).unflatten(-1, (-1, 5))
    p, q, r = place.unbind(-1)
    if scene.layered:
        p, q = unbend(bend, p, q, steps)
        r = torch.zeros_like(r)
    else:
        card = torch.tensor([kind == CARD for kind in scene.kinds], device=index.device)[index]
        r = torch.where(card, waves(bend, p, q)[0], r)
    x = (pose @ torch.stack((p, q, r, torch.ones_like(p)), -1)[..., None])[..., 0]
    depth = x[..., 2]
    d = x / torch.where(depth.abs() < 1e-9, 1e-9, depth)[..., None]
    if scene.layered:
        return d, torch.where(depth > 1e-6, torch.gather(scene.order, 1, index), -1.0)
    return d, torch.where(depth > 1e-3, 1 / depth, -1.0)


def unbend(bend: Tensor, u: Tensor, v: Tensor, steps: int = UNBEND_STEPS) -> tuple[Tensor, Tensor]:
    """Solve p + waves(p) = u by fixed-point iteration: the waves' slopes stay below 0.5, so each step at
    least halves the error and 40 are exact."""
    p, q = u, v
    for _ in range(steps):
        dp, dq = waves(bend, p, q)
        p, q = u - dp, v - dq
    return p, q


def image_boxes(scene: Scene, half: float, height: int, width: int) -> Tensor:
    """(F, K, 4) int64: rows and columns (top, bottom, left, right; the last excluded) beyond which an object cannot be
    seen in the frame. For scenes on the CPU: the bounds become Python's."""
    reach = 1 + scene.bend[..., :2].abs().sum(2)  # (F, K, 2)
    frames, count = scene.pose.shape[:2]
    corners = torch.tensor([[a, b, c] for a in (-1.0, 1) for b in (-1.0, 1) for c in (-1.0, 1)], dtype=scene.pose.dtype)
    corners = corners.expand(frames, count, 8, 3)
    if scene.layered:
        corners = corners * torch.nn.functional.pad(reach, (0, 1))[:, :, None]
    x = corners @ scene.pose[..., :3].transpose(-1, -2) + scene.pose[:, :, None, :, 3]
    near = (x[..., 2] < 1e-3).any(-1)
    d = x[..., :2] / x[..., 2:].clamp(min=1e-3) * half
    low = (d.amin(2) + torch.tensor([(width - 1) / 2, (height - 1) / 2])).floor() - 1
    high = (d.amax(2) + torch.tensor([(width - 1) / 2, (height - 1) / 2])).ceil() + 2
    box = torch.stack((low[..., 1], high[..., 1], low[..., 0], high[..., 0]), -1)
    whole = torch.tensor([0, height, 0, width], dtype=box.dtype)
    size = torch.tensor([height, height, width, width], dtype=box.dtype)
    box = torch.minimum(box.clamp(min=0), size)
    return torch.where(near[..., None], whole, box).long()
