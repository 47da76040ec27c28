"""What the page shows and steers, whatever the images come from."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from taptrv2_core.encodings import RgbImage, encode_jpeg

_QUALITY = 85  # of the JPEGs that go to the browser


class ClickError(ValueError):
    """What the page asked for cannot be done; the message is shown there."""


@dataclass(frozen=True)
class ShownPoint:
    """A point as the page shows and lists it."""

    id: int
    colour: str
    """``#rrggbb``."""
    state: str
    """``visible``, ``hidden``, or in words why it has no place in this image."""
    x: float | None = None
    """Pixels; None without a place in this image."""
    y: float | None = None


@dataclass(frozen=True)
class Scene:
    """One image with its points."""

    image: str
    """Names the image in clicks on it."""
    index: int
    """Number of the image, from 0."""
    jpeg: bytes
    width: int
    height: int
    points: tuple[ShownPoint, ...]
    playing: bool = True

    def header(self) -> dict[str, Any]:
        """All but the image, for JSON."""
        header = {name: value for name, value in asdict(self).items() if name != "jpeg"}
        return {"type": "scene", **header}


class Showing:
    """The newest scene, handed from the thread that makes scenes to those that send them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._scene: Scene | None = None
        self._problem = ""
        self._serial = 0

    def show(self, scene: Scene) -> None:
        """Make this the newest scene."""
        with self._condition:
            self._scene = scene
            self._serial += 1
            self._condition.notify_all()

    def fail(self, problem: str) -> None:
        """Say on the page why no new scenes come."""
        with self._condition:
            self._problem = problem
            self._serial += 1
            self._condition.notify_all()

    def newer(self, serial: int, timeout: float) -> tuple[int, Scene | None, str]:
        """Wait for something newer than ``serial``; the newest serial, scene and problem, waited for or not."""
        with self._condition:
            self._condition.wait_for(lambda: self._serial > serial, timeout)
            return self._serial, self._scene, self._problem


class Stage(Protocol):
    """Where images come from and points go to. Methods may be called from any thread; those that change something
    raise ClickError if that cannot be done."""

    showing: Showing

    def about(self) -> dict[str, Any]:
        """``name``; ``kind``: video, pick or live; ``images``, how many there are, 0 if that is not known."""
        ...

    def add(self, image: str, x: float, y: float) -> None:
        """A click at x, y in pixels of the image of that name."""
        ...

    def remove(self, point: int) -> None:
        """Forget a point."""
        ...

    def clear(self) -> None:
        """Forget all points."""
        ...

    def play(self, playing: bool) -> None:
        """Go on, or stop at the image shown."""
        ...

    def seek(self, index: int) -> None:
        """Show the image of that number."""
        ...


def jpeg(image: RgbImage) -> bytes:
    """An (H, W, 3) RGB image for the browser."""
    return encode_jpeg(image, _QUALITY)


def html_colour(rgb: Any) -> str:
    """(3,) RGB as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in rgb))
