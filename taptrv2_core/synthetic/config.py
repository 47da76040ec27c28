"""What a batch of clips is, and what decides its contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Clips:
    """One batch of clips. Pixels are OpenCV's: x right, y down, the centre of the top-left pixel is (0, 0)."""

    video: Tensor
    """(B, T, 3, H, W) float32, RGB in [0, 1]."""
    xy: Tensor
    """(B, T, N, 2) float32 pixels, exact also while the point is hidden or outside. Points behind the camera, which
    have no image, lie far outside, as do those farther than four image sizes away (clamped there)."""
    visible: Tensor
    """(B, T, N) bool: inside the image and not occluded."""
    inside: Tensor
    """(B, T, N) bool: in front of the camera and inside the image, -0.5 <= x < W - 0.5."""
    query_frame: Tensor
    """(B, N) int64: a frame in which the point is visible; `xy` there is the query's position."""


@dataclass(frozen=True)
class ClipConfig:
    """Contents of the clips."""

    frames: int = 24
    height: int = 256
    width: int = 256
    points: int = 64
    split: Literal["train", "heldout"] = "train"
    """The two splits share no textures, shapes, motion models or seeds."""
    share_3d: float = 0.6
    """Share of clips that are true 3D scenes; the others are layered 2D."""
    photometric: bool = True
    """Exposure, blur, noise, compression and the like. Without it a surface point keeps its colour."""
    speed: tuple[float, float] = (0.5, 3.0)
    """Range of a clip's speed (log-uniform); 1 moves things by about a tenth of the image in 24 frames."""
    fast_share: float = 0.35
    """Share of clips drawn from the upper half of `speed` alone."""
    first_frame_share: float = 0.5
    """Share of the points that are queried in frame 0; the others anywhere in the clip."""
    antialias: bool = True
    """Supersample the pixels at edges."""
    textures: int = 48
    """Textures in the pool."""
    texture_size: int = 0
    """Their side in texels, a power of two; 0: chosen from the image's size."""
    refresh_every: int = 8
    """One texture of the pool is replaced every so many batches; 0: never."""

    photos: bool = True
    """Use photographs too as textures of the training split, if scikit-image or scikit-learn is installed."""

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.points, self.textures) < 1:
            raise ValueError("ClipConfig: frames, height, width, points and textures must be positive")
        if not 0.0 <= self.share_3d <= 1.0:
            raise ValueError(f"ClipConfig: share_3d must be in [0, 1], not {self.share_3d}")
        if not 0.0 < self.speed[0] <= self.speed[1]:
            raise ValueError(f"ClipConfig: speed must be a rising range above 0, not {self.speed}")
        if self.texture_size & (self.texture_size - 1):
            raise ValueError(f"ClipConfig: texture_size must be a power of two, not {self.texture_size}")

    @property
    def texels(self) -> int:
        """Side of a texture in texels."""
        if self.texture_size:
            return self.texture_size
        return 256 if max(self.height, self.width) <= 160 else 512
