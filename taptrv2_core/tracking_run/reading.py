"""A recording's images decoded ahead of the tracker."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator

import numpy as np

from taptrv2_core.errors import RecordingError
from taptrv2_core.images import is_dark
from taptrv2_core.recordings import ConversionError, Recording
from taptrv2_core.stamps import Continuity, StampWatch
from taptrv2_core.tracking_run.following import DecodedFrame

_HEAD = 6  # images looked at beforehand
_USUAL_RATE = 20.0


class Decoder:
    """Decodes a recording's images. Those that cannot be are left out and counted; each problem is told once."""

    def __init__(
        self, recording: Recording, limit: int | None, tell: Callable[[str], None], watch: StampWatch | None = None
    ) -> None:
        """``limit`` is the most images to read; ``tell`` gets a line of text, from whatever thread this runs in. With a
        ``watch``, images are sorted out by their stamps as the live node does."""
        self._recording, self._limit, self._tell, self._watch = recording, limit, tell, watch
        self._problems: set[str] = set()
        self.left_out = 0
        self.first_problem = ""
        self.repeated = 0
        """Images left out because they had the stamp of the one before."""

    def frames(self) -> Generator[DecodedFrame, None, None]:
        """All usable images. Raises RecordingError where the recording ends too soon."""
        for number, source in enumerate(itertools.islice(self._recording.frames, self._limit)):
            continuity = Continuity() if self._watch is None else self._watch.receive(source.stamp)
            if continuity is None:
                self.repeated += 1
                continue
            try:
                image = source.rgb()
            except ConversionError as error:
                self._leave_out(number, error)
                continue
            if is_dark(image):
                self._tell_once("dark", f"image {number} is nearly black, so that nothing can be tracked in it")
            yield DecodedFrame(number, source, image, continuity)

    def _leave_out(self, number: int, error: ConversionError) -> None:
        self.left_out += 1
        self.first_problem = self.first_problem or str(error)
        self._tell_once(error.problem, f"image {number} is left out: {error}")

    def _tell_once(self, problem: str, text: str) -> None:
        if problem not in self._problems:
            self._problems.add(problem)
            self._tell(f"{text} (said once)")


def look_ahead(frames: Iterator[DecodedFrame]) -> tuple[list[DecodedFrame], Iterator[DecodedFrame]]:
    """The first few images, and all of them again. Raises RecordingError if not even one can be read."""
    head: list[DecodedFrame] = []
    problem: RecordingError | None = None
    try:
        head.extend(itertools.islice(frames, _HEAD))
    except RecordingError as error:
        problem = error

    def everything() -> Iterator[DecodedFrame]:
        yield from head
        if problem is not None:
            raise problem
        yield from frames

    if problem is not None and not head:
        raise problem
    return head, everything()


def image_rate(frames: list[DecodedFrame]) -> float:
    """Images a second by the stamps of the first few, between 1 and 120, as a video can show them."""
    steps = np.diff([frame.source.stamp for frame in frames]) / 1e9
    step = float(np.median(steps)) if len(steps) else 0.0
    return float(np.clip(1 / step, 1, 120)) if step > 0 else _USUAL_RATE
