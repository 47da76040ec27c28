"""The first question to a service, which may get no answer.

DDS announces a client's two ends to the service one after the other. A service that knows only the one that asks
answers into the void: "failed to send response (timeout): client will not receive response", where the client waits
for ever. It happens where announcements are late or lost, on a busy machine for instance. So a client first asks
something that changes nothing, again and again, until an answer comes. The ends of all that its node made before are
known by then too, since they are announced in that order.
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.task import Future

AGAIN = 2.0
"""Seconds until the question is asked again."""


class FirstContact:
    """Asks until there is an answer; some thread has to spin the client's node."""

    def __init__(self, client: Any) -> None:
        """``client`` of a service whose empty request changes nothing, made after all others of its node."""
        self._client = client
        self._next = 0.0
        self._answers: list[Future] = []

    def made(self) -> bool:
        """Whether an answer has come; asks if there is none and it is time to."""
        made = any(answer.done() for answer in self._answers)
        if not made and time.monotonic() >= self._next and self._client.service_is_ready():
            self._answers.append(self._client.call_async(self._client.srv_type.Request()))
            self._next = time.monotonic() + AGAIN
        return made
