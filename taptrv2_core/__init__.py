"""TAPTRv2 point tracking, frame by frame.

model = load_model("small", device="auto")
tracker = Tracker(model)
ids = tracker.add_points([(320.0, 240.0)])
tracks = tracker.step(image)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taptrv2_core.checkpoint import load_model, save_checkpoint
    from taptrv2_core.config import PUBLISHED, SMALL, ModelConfig
    from taptrv2_core.encoded import EncodedImage, encode_images
    from taptrv2_core.errors import CheckpointError, ImageError, PointError
    from taptrv2_core.model import Taptr
    from taptrv2_core.offline import VideoTracks, track_video
    from taptrv2_core.tracker import Tracker
    from taptrv2_core.tracks import Queries, Tracks

__all__ = [
    "PUBLISHED",
    "SMALL",
    "CheckpointError",
    "EncodedImage",
    "ImageError",
    "ModelConfig",
    "PointError",
    "Queries",
    "Taptr",
    "Tracker",
    "Tracks",
    "VideoTracks",
    "encode_images",
    "load_model",
    "save_checkpoint",
    "track_video",
]

_HOMES = {
    "checkpoint": ("load_model", "save_checkpoint"),
    "config": ("PUBLISHED", "SMALL", "ModelConfig"),
    "encoded": ("EncodedImage", "encode_images"),
    "errors": ("CheckpointError", "ImageError", "PointError"),
    "model": ("Taptr",),
    "offline": ("VideoTracks", "track_video"),
    "tracker": ("Tracker",),
    "tracks": ("Queries", "Tracks"),
}

if not TYPE_CHECKING:

    def __getattr__(name):
        """Imported when first used: programs have something to settle before torch is loaded, or to say if it is
        missing (``taptrv2_core.startup``)."""
        for module, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(f"taptrv2_core.{module}"), name)
        raise AttributeError(f"module 'taptrv2_core' has no attribute '{name}'")
