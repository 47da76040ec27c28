"""All outputs of a run together: written frame by frame in a thread, closed whatever happens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from taptrv2_core.threads import WriteBehind
from taptrv2_core.tracking_run.following import TrackedFrame
from taptrv2_core.tracking_run.outputs.output import Output

_BEHIND = 8  # frames
_MARGIN = 4 << 20  # bytes left free on the disk beside what finishing the files takes


class OutputError(OSError):
    """An output cannot be written any further; the others are whole as far as they go."""


class Outputs:
    """Writes each frame to all outputs. Stops before the disk is full, so that every file can still be finished."""

    def __init__(self, folder: Path, outputs: Sequence[Output]) -> None:
        self._folder = folder
        self._outputs = list(outputs)
        self._thread: WriteBehind[TrackedFrame] = WriteBehind(self._write, _BEHIND)
        self.frames = 0
        """Written to all of them."""

    def put(self, frame: TrackedFrame) -> None:
        """The next frame, soon. Raises OutputError of a frame before it."""
        self._thread.put(frame)

    def close(self) -> None:
        """Wait for what is under way and finish every file. Raises OutputError."""
        failure: OSError | None = None
        try:
            self._thread.close()
        except OSError as error:
            failure = error
        for output in self._outputs:
            try:
                output.close()
            except OSError as error:
                failure = failure or _failure(output, error)
        if failure is not None:
            raise failure

    def _write(self, frame: TrackedFrame) -> None:
        check_room(self._folder, sum(output.bytes_to_close() for output in self._outputs))
        for output in self._outputs:
            try:
                output.write(frame)
            except OSError as error:
                with suppress(OSError):
                    output.close()
                self._outputs.remove(output)
                raise _failure(output, error) from error
        self.frames += 1


def check_room(folder: Path, bytes_to_close: int) -> None:
    """Raises OutputError where files in a folder could not be finished if any more were written to them."""
    needed = _MARGIN + bytes_to_close
    if shutil.disk_usage(folder).free < needed:
        raise OutputError(f"the disk of {folder} is full but for {needed >> 20} MB, which finishing the files takes")


def abandon(outputs: Sequence[Output]) -> None:
    """Close outputs that nothing will be written to."""
    for output in outputs:
        with suppress(OSError):
            output.close()


def _failure(output: Output, error: OSError) -> OutputError:
    return OutputError(f"{output.path}: cannot be written: {error.strerror or error}")
