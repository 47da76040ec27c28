"""Demo: an image put on one frame of a video stays on the surface there, and goes behind whatever passes in front.

placements = follow_surface(model, images, box, frame)    # where the surface is in every image
pictures = draw_sticker(images, placements, load_artwork(path))
"""

from __future__ import annotations

from taptrv2_core.demos.sticker.artwork import load_artwork, own_artwork
from taptrv2_core.demos.sticker.draw import draw_sticker
from taptrv2_core.demos.sticker.follow import Box, Surface, follow_surface

__all__ = ["Box", "Surface", "draw_sticker", "follow_surface", "load_artwork", "own_artwork"]
