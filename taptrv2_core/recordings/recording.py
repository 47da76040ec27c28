"""What every recording is read as, whatever it is stored in."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field

from taptrv2_core.encodings import CompressedImage, RawImage, RgbImage

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Frame:
    """One image, as it was recorded."""

    stamp: int
    """Nanoseconds: of the message's header; in videos and folders, of its place at their rate."""
    recorded: int
    """Nanoseconds: when the bag received it; ``stamp`` in videos and folders."""
    frame_id: str
    image: RawImage | CompressedImage

    def rgb(self) -> RgbImage:
        """(H, W, 3) uint8 RGB, decoded now; do not write into it. Raises ConversionError: this image is unusable."""
        return self.image.rgb()


@dataclass(frozen=True)
class Recording:
    """A recording opened for reading, once and in order. A context manager that closes it."""

    name: str
    """Short, for files of results."""
    description: str
    """One line: kind, topic, size."""
    topic: str
    """Image topic; of what is no bag, ``/camera/image_raw``."""
    is_bag: bool
    compressed: bool
    """Whether the images are ``CompressedImage``."""
    count: int
    """Images in it, as far as it says beforehand; 0 if it does not."""
    frames: Generator[Frame, None, None]
    """Its images in recorded order. Raises RecordingError where it cannot be read any further."""

    files: ExitStack = field(default_factory=ExitStack, repr=False)
    """What has to be closed."""

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its files."""
        self.frames.close()
        self.files.close()
