"""The images a demo works on: of a recording, or of a generated clip."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from taptrv2_core.demos.clip import CLIP, RATE, SEED, there_and_back
from taptrv2_core.encodings import RgbImage
from taptrv2_core.recordings import NANOSECONDS, ConversionError, Frame, RecordingError, open_recording
from taptrv2_core.synthetic import ClipConfig

_HEAD = 6  # images looked at beforehand


@dataclass(frozen=True)
class Images:
    """Images to be read once, in order. A context manager that closes their files."""

    name: str
    images: Iterator[RgbImage]
    """(H, W, 3) uint8 RGB each; do not write into them. Raises RecordingError where they cannot be read further."""
    rate: float
    """Images a second."""
    count: int
    """How many there are, as far as that is known beforehand; 0 if it is not."""
    files: ExitStack = field(default_factory=ExitStack, repr=False)

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
        return Images("generated", iter(video), RATE, len(video))
    with ExitStack() as stack:
        recording = stack.enter_context(open_recording(path, topic))
        head = list(itertools.islice(recording.frames, _HEAD))
        if len(head) < 2 or (limit is not None and limit < 2):
            raise RecordingError(f"{path}: {len(head)} image in the recording; following points takes at least 2")
        images = itertools.islice(_decoded(path, itertools.chain(head, recording.frames)), limit)
        count = min(recording.count, limit or recording.count)
        return Images(recording.name, images, _rate(head), count, stack.pop_all())


def _rate(head: list[Frame]) -> float:
    step = float(np.median(np.diff([frame.stamp for frame in head]))) / NANOSECONDS
    return float(np.clip(1 / step, 1, 120)) if step > 0 else float(RATE)


def _decoded(path: Path, frames: Iterator[Frame]) -> Iterator[RgbImage]:
    """Images that cannot be used are left out, and it is said once."""
    told = False
    for frame in frames:
        try:
            image = frame.rgb()
        except ConversionError as error:
            if not told:
                print(f"{path}: left out, as others like it will be: {error}", file=sys.stderr)
            told = True
            continue
        yield image
