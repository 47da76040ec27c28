"""The parts a camera is made of: each publishes something about the tracked frames, or changes what is tracked.

A new feature is a subclass of `CameraPart` in a file of its own, and a line in parts.py.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from taptrv2_core import ImageError, PointError
from taptrv2_core.encodings import ConversionError
from taptrv2_ros.parameters import Parameters
from taptrv2_ros.session import TrackedFrame, TrackingSession
from taptrv2_ros.worker import Worker, WorkerStopped

Result = TypeVar("Result")


@dataclass
class CameraContext:
    """What the parts of one camera share.

    Attributes:
        node: to make publishers, services and subscriptions with; destroy them in `CameraPart.close`.
        name: the camera's; empty for a single camera without a name.
        parameters: as they are now; replaced when they change.
        session: the tracking, to be touched in the worker's thread only (`CameraPart.on_frame`, `run`).
        images: callback group for subscriptions to what the camera sends; callbacks must return at once.
        requests: callback group for services and others who change what is tracked; callbacks may use `run`.
        active: whether the node is.
    """

    node: Node
    name: str
    parameters: Parameters
    session: TrackingSession
    worker: Worker[Any, Any]
    images: CallbackGroup
    requests: CallbackGroup
    active: bool = False

    def topic(self, name: str) -> str:
        """A topic or service of this camera: ``~/tracks``, or ``~/front/tracks``."""
        return f"~/{self.name}/{name}" if self.name else f"~/{name}"

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in the worker's thread, between two images, and return its result or raise its error."""
        return self.worker.call(function)

    def request(self, what: str, change: Callable[[], None]) -> str:
        """Make a change that was asked for, which may `run`. Returns why it was refused, counted and logged, or ""."""
        try:
            self.worker.check()
            change()
        except (PointError, ImageError, ConversionError, WorkerStopped) as error:
            self.node.get_logger().warning(f"{what} refused: {error}")
            reason = str(error)
        except Exception as error:  # nobody foresaw it; the client is told, and the node goes on
            self.node.get_logger().error(f"{what} failed: {traceback.format_exc()}")
            reason = f"{what} failed: {type(error).__name__}: {error}"
        else:
            return ""
        self.session.counters.requests_refused += 1
        return reason


class CameraPart:
    """Base of all parts; subclasses override what they need.

    Made when the node is configured (in `__init__`: publishers and services), started and stopped as it becomes active
    and inactive, closed on clean-up. An error a part raises for a frame is logged and does not stop the others.
    """

    def __init__(self, context: CameraContext) -> None:
        self.context = context

    def start(self) -> None:
        """The node becomes active: make subscriptions to the camera."""

    def stop(self) -> None:
        """The node becomes inactive: destroy what `start` made. No frame is in work, and none comes."""

    def close(self) -> None:
        """Destroy what `__init__` made."""

    def wanted(self) -> bool:
        """Whether somebody subscribes to what this part publishes for frames; where nobody does, lazy nodes sleep."""
        return False

    def problem(self) -> str:
        """What keeps this part from doing its work now, for diagnostics; empty where nothing does. From any thread."""
        return ""

    def on_frame(self, tracked: TrackedFrame) -> None:
        """An image was tracked. In the worker's thread, in the order of parts.py; the session may be used."""

    def on_reset(self, reason: str) -> None:
        """All images were forgotten, and all points but those of references. In the worker's thread."""

    def on_change(self) -> None:
        """Parameters or limits of the camera changed, or it became active or inactive."""
