"""One camera's session without ROS's plumbing: its log, its images, and a device with little memory."""

from __future__ import annotations

import time
from typing import Any

import torch
from camera_process import camera_message

from taptrv2_core import Taptr, encode_images
from taptrv2_core.stamps import Continuity
from taptrv2_ros.session import Received, TrackedFrame, TrackingSession

FIRST = Continuity(0, "")
SIZE = (48, 64)


class Log:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.error, self.warning = self.errors.append, self.warnings.append

    def info(self, message: str) -> None:
        """Not of interest."""


def track(session: TrackingSession, index: int, continuity: Continuity = FIRST, **order: Any) -> TrackedFrame | None:
    """One image through a session, as the node does it."""
    message = camera_message(index, order.get("size", SIZE), False, order.get("fault", ""))
    frame = session.prepare(Received(message, continuity, time.monotonic()))
    if frame is None:
        return None
    try:
        (encoded,) = encode_images(session.tracker.model, [frame.rgb])
    except Exception as error:
        session.lose(error)
        return None
    return session.track(frame, encoded)


class ScarceTaptr(Taptr):
    """A network on a device that has memory for so many points."""

    room = 8

    def decode(self, content: torch.Tensor, *rest: Any) -> Any:
        self._allocate(content.shape[2])
        return super().decode(content, *rest)

    def initial_content(self, memory: Any, position: torch.Tensor) -> torch.Tensor:
        self._allocate(position.shape[1])
        return super().initial_content(memory, position)

    def _allocate(self, points: int) -> None:
        if points > self.room:
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {points} GiB")
