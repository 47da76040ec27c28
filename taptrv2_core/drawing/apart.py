"""A video of points, drawn and encoded in a process of its own."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import ArrayLike

from taptrv2_core.drawing.points import DrawStyle, PointDrawer, Rgb, background, write_caption
from taptrv2_core.drawing.video import VideoWriter
from taptrv2_core.errors import VideoError
from taptrv2_core.extras import optional
from taptrv2_core.startup import keep_freed_memory
from taptrv2_core.threads import standing_back

_PIPE_BYTES = 1 << 20  # as much as Linux lets anybody have: fewer turns for an image
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
        # The process inherits what is blocked: Ctrl-C is for this one, which knows what to do about it. (It would not
        # reach a session of its own either, but Linux gives each session its share of the cores.)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_THE_CHILD)
        try:
            command = [sys.executable, "-c", _CHILD.format(path=sys.path)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._images, self._problem = self._process.stdin, self._process.stdout
        if sys.platform == "linux":
            with suppress(OSError):
                fcntl.fcntl(self._images, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._send((self.path, rate, style))

    def write(self, image: Rgb, ids: ArrayLike, xy: ArrayLike, visible: ArrayLike, caption: str) -> None:
        """The next image, (H, W, 3) RGB, with its points as `PointDrawer.draw` takes them; waits while the process is
        busy with the one before. Raises VideoError, also of an image before it."""
        # Reduced here: passing an image on costs as much as reducing it.
        canvas = background(image, self._style)
        self._send((canvas.shape, image.shape[:2], ids, xy, visible, caption), canvas)
        self.frames += 1

    def close(self) -> None:
        """Finish the file. Raises VideoError if it cannot be written."""
        if self._problem.closed:
            return
        with suppress(BrokenPipeError):
            self._images.close()
        with self._problem:
            problem = self._problem.read().decode()
        status = self._process.wait()
        if problem or status:
            raise VideoError(problem or f"{self.path}: the process that draws it has ended, with status {status}")

    def _send(self, about: Any, image: Rgb | None = None) -> None:
        try:
            pickle.dump(about, self._images)
            if image is not None:
                self._images.write(image.data)
            self._images.flush()
        except BrokenPipeError:
            self.close()
            raise VideoError(f"{self.path}: the process that draws it has ended") from None


def _environment() -> dict[str, str]:
    """Of the other process: NumPy's algebra, which it does not use, starts no threads. They would spin at first."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def serve() -> None:
    """What the other process does: draws what comes on standard input, and says on standard output what went wrong."""
    keep_freed_memory()  # a tenth of its time would be page faults
    cv2.setNumThreads(1)
    path, rate, style = pickle.load(sys.stdin.buffer)
    video = VideoWriter(path, rate, fast=True)
    pictures = _pictures(sys.stdin.buffer, PointDrawer(style))
    failed: list[Exception] = []

    def write_next() -> bool:
        try:
            picture = next(pictures, None)
            if picture is not None:
                video.write(picture)
            return picture is not None
        except Exception as error:
            failed.append(error)
            return False

    standing_back(write_next)
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


def _pictures(source: BinaryIO, drawer: PointDrawer) -> Iterator[Rgb]:
    """What is sent, drawn, until whoever sends it closes his end, or is no more."""
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            shape, image_size, ids, xy, visible, caption = pickle.load(source)
            canvas = np.empty(shape, np.uint8)
            if source.readinto(canvas.data) < canvas.nbytes:  # type: ignore[attr-defined]
                return
            picture = drawer.draw_on(canvas, image_size, ids, xy, visible)
            write_caption(picture, caption)
            yield picture
