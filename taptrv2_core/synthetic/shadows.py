"""Shadows of a 3D scene: the objects' depth as the sun sees it, compared with each pixel's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, pad

from .scene import Scene, image_boxes
from .trace import Tracer

DISTANCE = 8.0
"""Metres from the middle of the scene to the sun's eye: far enough for nearly parallel light."""
EXTENT = 2.6
"""Half side of the square that the sun sees, in metres; beyond it nothing casts a shadow."""
RANGE = 3.0
"""Metres before and behind the middle of the scene within which depths are told apart."""
BIAS = 0.08
"""Metres within which a surface does not shade itself."""


def sun_view(to_sun: Tensor) -> tuple[Tensor, Tensor]:
    """View (F, 3, 3) from world to the sun's X, and eye (F, 3), from the directions to the sun (F, 3)."""
    side = torch.tensor([0.0, 0.0, 1.0], dtype=to_sun.dtype).expand_as(to_sun)
    right = torch.nn.functional.normalize(torch.linalg.cross(side, -to_sun), dim=-1)
    turn = torch.stack((right, torch.linalg.cross(-to_sun, right), -to_sun), -2)
    turn[:, :2] *= DISTANCE / EXTENT
    return turn, to_sun * DISTANCE


@dataclass
class Shadow:
    """Soft shadow map of every frame (a variance shadow map)."""

    depth: Tensor
    """(F, 2, M, M): depth from the middle of the scene and its square, smoothed: their means and variances bound the
    share of light that arrives (Chebyshev), which gives soft edges at a single look-up."""
    to_sun: Tensor
    """(F, 3, 4): X of the camera to X of the sun."""
    ambient: Tensor
    """(F,): brightness in full shade."""

    @staticmethod
    def cast(scene: Scene, shapes: Tensor, cells: int, soft: int) -> Shadow | None:
        """What the sun sees of a scene (float64, CPU); None if there is no sun. Computed where `shapes` is."""
        if scene.sun_pose.shape[1] == 0:
            return None
        pose = scene.sun_pose
        inverse = torch.linalg.inv(pose[..., :3])
        back = torch.cat((inverse, -inverse @ pose[..., 3:]), -1)
        tensors = (
            pose,
            back,
            scene.order[:, 1:],
            scene.bend[:, 1:],
            scene.shape[:, 1:],
            scene.skin,
            scene.light[:, 1:],
        )
        seen = Scene(scene.kinds[1:], *tensors, scene.sun_pose, scene.to_sun, scene.ambient)
        line = ((torch.arange(cells) + 0.5) / cells * 2 - 1).to(shapes.device)
        y, x = torch.meshgrid(line, line, indexing="ij")
        d = torch.stack((x, y, torch.ones_like(x)))[None]
        boxes = image_boxes(seen, cells / 2, cells, cells)
        bounds = torch.stack((boxes.amin(0), boxes.amax(0)), -1).tolist()
        limits = [(b[0][0], b[1][1], b[2][0], b[3][1]) for b in bounds]
        key = Tracer(seen.to(shapes.device, torch.float32), shapes).nearest(d, boxes=limits)[0]
        depth = torch.full_like(key, RANGE)
        inner = key[:, 1:-1, 1:-1].clamp(min=1 / (DISTANCE + RANGE), max=1 / (DISTANCE - RANGE))
        depth[:, 1:-1, 1:-1] = 1 / inner - DISTANCE  # nothing casts shadows beyond the map's border
        value = torch.stack((depth, depth * depth), 1)
        value = avg_pool2d(pad(value, (soft,) * 4, mode="replicate"), 2 * soft + 1, 1)
        return Shadow(value, scene.to_sun.to(value), scene.ambient.to(value))

    def frames(self, start: int, stop: int) -> Shadow:
        """Some of the frames."""
        return Shadow(self.depth[start:stop], self.to_sun[start:stop], self.ambient[start:stop])

    def apply(self, d: Tensor, key: Tensor, gain: Tensor) -> Tensor:
        """The brightness (F, H, W) of what is seen at d (F or 1, 3, H, W) at depth 1 / key, shaded."""
        m = self.to_sun[:, :, :, None, None]
        z = 1 / key.clamp(min=1e-6)
        x, y, far = ((m[:, i, 0] * d[:, 0] + m[:, i, 1] * d[:, 1] + m[:, i, 2]) * z + m[:, i, 3] for i in range(3))
        grid = torch.stack((x / far, y / far), -1)
        mean, square = grid_sample(self.depth, grid, align_corners=False, padding_mode="border").unbind(1)
        beyond = (far - (DISTANCE + BIAS) - mean).clamp_(min=0)
        spread = torch.addcmul(square, mean, mean, value=-1).clamp_(min=BIAS**2 / 4)
        lit = spread / (spread + beyond * beyond)
        ambient = self.ambient[:, None, None]
        return ambient + (gain - ambient) * lit
