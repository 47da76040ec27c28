"""A video of points, drawn and encoded in a process of its own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.drawing.points import DrawStyle, PointDrawer, Rgb, background, write_caption
from taptrv2_core.drawing.video import VideoWriter
from taptrv2_core.errors import VideoError
from taptrv2_core.extras import optional
from taptrv2_core.startup import keep_freed_memory
from taptrv2_core.threads import standing_back

_SLOTS = 2  # pictures in the memory that both processes see: one is filled while the other is drawn into
_DONE = b"\0"  # what the process says of each picture
_CHILD = "import sys; sys.path[:] = {path!r}; from taptrv2_core.drawing.apart import serve; serve()"
_NOT_FOR_THE_CHILD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class DrawnVideo:
    """Like `PointDrawer` into a fast `VideoWriter`, but in a process that starts at once and stands back for this one.

    A thread that draws would take Python's lock from the tracker, some two hundred times an image.

    The file is whole once ``close`` is through, and also where this process ends before that.
    """

    def __init__(self, path: str | Path, rate: float, style: DrawStyle) -> None:
        """``rate`` in images a second. Raises MissingPackageError without PyAV, OSError: no process can be started."""
        optional("av", "av", "writing videos")
        self.path = Path(path)
        self._style = style
        self.frames = 0
        """Images handed over so far."""
        self._memory = _shared_memory()
        self._slots: NDArray[np.uint8] | None = None
        self._said = b""
        # The process inherits what is blocked: Ctrl-C is for this one, which knows what to do about it. (It would not
        # reach a session of its own either, but Linux gives each session its share of the cores.)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_THE_CHILD)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD.format(path=sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                pass_fds=[self._memory.fileno()], env=_environment(),
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self._send((self.path, rate, style, self._memory.fileno()))

    def write(self, image: Rgb, ids: ArrayLike, xy: ArrayLike, visible: ArrayLike, caption: str) -> None:
        """The next image, (H, W, 3) RGB, with its points as `PointDrawer.draw` takes them; waits while the process is
        busy with the ones before. Raises VideoError, also of an image before it."""
        width, height = self._style.picture_size(image)
        if self._slots is None:
            self._slots = _slots(self._memory, (height, width))
        if self._slots.shape[1:3] != (height, width):
            raise VideoError(f"{self.path}: image size changed")
        if self.frames >= _SLOTS and (said := self._answers.read(1)) != _DONE:
            self._said = said
            self._give_up()
        background(image, self._style, self._slots[self.frames % _SLOTS])
        self._send(((height, width), image.shape[:2], ids, xy, visible, caption))
        self.frames += 1

    def close(self) -> None:
        """Finish the file. Raises VideoError if it cannot be written."""
        if self._answers.closed:
            return
        with suppress(BrokenPipeError):
            self._orders.close()
        with self._answers, self._memory:
            problem = (self._said + self._answers.read()).replace(_DONE, b"").decode()
        status = self._process.wait()
        if problem or status:
            raise VideoError(problem or f"{self.path}: the process that draws it has ended, with status {status}")

    def _send(self, about: Any) -> None:
        try:
            pickle.dump(about, self._orders)
            self._orders.flush()
        except BrokenPipeError:
            self._give_up()

    def _give_up(self) -> NoReturn:
        self.close()
        raise VideoError(f"{self.path}: the process that draws it has ended")


def _shared_memory() -> IO[bytes]:
    """An empty file that another process can inherit; where there is a choice, one that never gets to a disk."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("taptr overlay"), "w+b")
    return tempfile.TemporaryFile()


def _slots(memory: IO[bytes], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(_SLOTS, height, width, 3), the memory of such a file, which becomes as large."""
    return np.asarray(np.memmap(memory, np.uint8, "r+", shape=(_SLOTS, *size, 3)))


def _environment() -> dict[str, str]:
    """Of the other process: NumPy's algebra, which it does not use, starts no threads. They would spin at first."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def serve() -> None:
    """What the other process does: draws what comes on standard input, and says on standard output what went wrong."""
    keep_freed_memory()  # a tenth of its time would be page faults
    cv2.setNumThreads(1)
    path, rate, style, memory = pickle.load(sys.stdin.buffer)
    video = VideoWriter(path, rate, fast=True)
    with os.fdopen(memory, "r+b") as file:
        drawing = _draw(sys.stdin.buffer, file, PointDrawer(style), video)
        failed: list[Exception] = []

        def draw_next() -> bool:
            try:
                return next(drawing, False)
            except Exception as error:
                failed.append(error)
                return False

        standing_back(draw_next)
    try:
        if failed:
            raise failed[0]
        video.close()
    except VideoError as error:
        sys.stdout.buffer.write(str(error).encode(errors="replace"))
    finally:
        with suppress(VideoError):
            video.close()
    sys.stdout.buffer.flush()
    os._exit(0)  # whoever reads it waits for the end, and Python takes its time to clean up


def _draw(orders: BinaryIO, memory: IO[bytes], drawer: PointDrawer, video: VideoWriter) -> Iterator[bool]:
    """Draw what is asked for until whoever asks closes his end, or is no more; yields True after each."""
    yield True  # begun with the usual priority, see `standing_back`; what comes is done by the thread that stands back
    write_caption(np.zeros((32, 64, 3), np.uint8), "0")  # loads the font, which each thread does anew
    slots: NDArray[np.uint8] | None = None
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            size, image_size, ids, xy, visible, caption = pickle.load(orders)
            slots = _slots(memory, size) if slots is None else slots
            picture = drawer.draw_on(slots[video.frames % _SLOTS], image_size, ids, xy, visible)
            write_caption(picture, caption)
            video.write(picture)
            with suppress(BrokenPipeError):
                os.write(1, _DONE)
            yield True
