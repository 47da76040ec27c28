"""The images a demo works on: of a recording, or of a generated clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from taptrv2_core.demos.clip import CLIP, RATE, SEED, there_and_back
from taptrv2_core.encodings import RgbImage
from taptrv2_core.progress import say
from taptrv2_core.recordings import RecordingError, open_recording
from taptrv2_core.synthetic import ClipConfig
from taptrv2_core.tracking_run.reading import Decoder, image_rate, look_ahead


@dataclass(frozen=True)
class Images:
    """Images to be read once, in order. A context manager that closes their files."""

    name: str
    numbered: Iterator[tuple[int, RgbImage]]
    """The images, (H, W, 3) uint8 RGB each, with their numbers in the recording, from 0; do not write into them. Those
    that cannot be decoded are missing. Raises RecordingError where they cannot be read further."""
    rate: float
    """Images a second."""
    count: int
    """How many there are, as far as that is known beforehand; 0 if it is not."""
    files: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def images(self) -> Iterator[RgbImage]:
        """What is left of them, without the numbers."""
        return (image for _, image in self.numbered)

    def __enter__(self) -> Images:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()


def open_images(
    path: Path | None,
    topic: str | None = None,
    limit: int | None = None,
    config: ClipConfig = CLIP,
    seed: int = SEED,
) -> Images:
    """Open a bag, a video or a folder of images; without a path, a generated clip.

    Args:
        path: as `open_recording` takes it.
        topic: of a bag with several.
        limit: most images.
        config, seed: of the generated clip.

    Raises:
        RecordingError: it cannot be read, or there are fewer than two images.
    """
    if path is None:
        if topic is not None:
            raise RecordingError("--topic chooses a topic of a bag; give the bag as INPUT")
        video = there_and_back(config, seed).video[:limit]
        return Images("generated", enumerate(video), RATE, len(video))
    with ExitStack() as stack:
        recording = stack.enter_context(open_recording(path, topic))
        head, frames = look_ahead(Decoder(recording, limit, say).frames())
        if len(head) < 2:
            raise RecordingError(f"{path}: {len(head)} image in the recording; following points takes at least 2")
        count = min(recording.count, limit or recording.count)
        numbered = ((frame.number, frame.image) for frame in frames)
        return Images(recording.name, numbered, image_rate(head), count, stack.pop_all())
