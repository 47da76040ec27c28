"""Recordings as streams of images, read without ROS: bags, video files, folders of images.

with open_recording("drive.mcap") as recording:
    for frame in recording.frames:
        image, stamp = frame.rgb(), frame.stamp
"""

from __future__ import annotations

from pathlib import Path

from taptrv2_core.encodings import CompressedImage, ConversionError, RawImage
from taptrv2_core.errors import RecordingError
from taptrv2_core.recordings.bags import find_bag, open_bag
from taptrv2_core.recordings.files import open_folder, open_video
from taptrv2_core.recordings.recording import NANOSECONDS, Frame, Recording

__all__ = [
    "NANOSECONDS",
    "CompressedImage",
    "ConversionError",
    "Frame",
    "RawImage",
    "Recording",
    "RecordingError",
    "open_recording",
]


def open_recording(path: str | Path, topic: str | None = None) -> Recording:
    """Open a bag (ROS 1; ROS 2 in SQLite or MCAP; file or folder; compressed or not), a video or a folder of images.

    Args:
        path: of the file or folder. A bag's ``metadata.yaml`` may be missing.
        topic: chooses among a bag's image topics; needed where there are several.

    Raises:
        RecordingError: nothing there, not readable, no images, or several topics to choose from (they are listed).
        MissingPackageError: a bag, and the package ``rosbags`` is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise RecordingError(f"{path}: no such file or folder")
    files = find_bag(path)
    if files:
        return open_bag(path, files, topic)
    if topic is not None:
        raise RecordingError(f"{path}: only bags have topics; leave --topic out")
    return open_folder(path) if path.is_dir() else open_video(path)
