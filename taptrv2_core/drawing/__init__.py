"""Tracks as pictures and videos.

drawer = PointDrawer()
with VideoWriter("overlay.mp4", rate=20) as video:
    video.write(drawer.draw(image, tracks.ids, tracks.xy, tracks.visible))
"""

from __future__ import annotations

from taptrv2_core.drawing.apart import DrawnVideo
from taptrv2_core.drawing.colours import point_colours, rainbow
from taptrv2_core.drawing.points import DrawStyle, PointDrawer, write_caption
from taptrv2_core.drawing.video import VideoWriter

__all__ = ["DrawStyle", "DrawnVideo", "PointDrawer", "VideoWriter", "point_colours", "rainbow", "write_caption"]
