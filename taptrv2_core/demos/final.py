"""Tracks for those who can wait a little: each image with the last word on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taptrv2_core.encodings import RgbImage
from taptrv2_core.tracker import Tracker
from taptrv2_core.tracks import Tracks


def final_tracks(tracker: Tracker, images: Iterable[RgbImage]) -> Iterator[tuple[RgbImage, Tracks]]:
    """Step a tracker through images; each comes back with its tracks once no later window will better them.

    That is up to 7 images later, so that many are held. The last ones get the best answer there is at the end.
    """
    waiting: dict[int, tuple[RgbImage, Tracks]] = {}
    for image in images:
        newest = tracker.step(image)
        waiting[newest.frame_index] = image, newest
        for refined in newest.refined:
            if refined.frame_index in waiting:
                waiting[refined.frame_index] = waiting[refined.frame_index][0], refined
        for frame in [frame for frame, (_, tracks) in waiting.items() if tracks.final]:
            yield waiting.pop(frame)
    yield from waiting.values()
