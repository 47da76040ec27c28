"""What happened to one camera's images and requests: counted here, told on /diagnostics and when the node ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """Numbers since the node was configured. Each is changed by one thread only."""

    received: int = 0
    repeated: int = 0
    """Images with the stamp of the image before; they are left out."""
    dropped: int = 0
    """Images for which the tracker had no time, because a newer one came first."""
    tracked: int = 0
    refused: int = 0
    """Images that could not be converted or tracked."""
    resets: int = 0
    requests_refused: int = 0
    without_depth: int = 0
    """Tracked images that gave no points in space, where a depth topic is set."""

    def __str__(self) -> str:
        return (
            f"{self.received} images received, {self.tracked} tracked, {self.dropped} dropped, {self.refused} refused, "
            f"{self.repeated} repeated, {self.resets} resets, {self.requests_refused} requests refused"
        )
