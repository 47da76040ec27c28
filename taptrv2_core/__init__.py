"""TAPTRv2 point tracking, frame by frame.

model = load_model("small", device="auto")
tracker = Tracker(model)
ids = tracker.add_points([(320.0, 240.0)])
tracks = tracker.step(image)
"""

from taptrv2_core.checkpoint import load_model, save_checkpoint
from taptrv2_core.config import PUBLISHED, SMALL, ModelConfig
from taptrv2_core.encoded import EncodedImage, encode_images
from taptrv2_core.errors import CheckpointError, ImageError, PointError
from taptrv2_core.model import Taptr
from taptrv2_core.offline import VideoTracks, track_video
from taptrv2_core.tracker import Queries, Tracker, Tracks

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
