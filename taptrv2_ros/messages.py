"""The tracker's results as messages. Arrays go in through the buffer protocol; one by one takes milliseconds."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from std_msgs.msg import Header

from taptrv2_core import Queries, Tracks
from taptrv2_ros.groups import Groups
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.srv import ListPoints

NANOSECONDS = 1_000_000_000


def nanoseconds(time: Time) -> int:
    """A stamp as one integer, the tracker's name of an image."""
    return int(time.sec) * NANOSECONDS + int(time.nanosec)


def time_message(stamp: int) -> Time:
    """Nanoseconds as a stamp."""
    return Time(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS)


def tracks_message(
    tracks: Tracks, header: Header, image_size: tuple[int, int], velocity: NDArray[np.float32], groups: Groups
) -> PointTracks:
    """Points in one image as ``PointTracks``, without its counters.

    Args:
        tracks: the points.
        header: the image's own.
        image_size: (height, width).
        velocity: (N, 2) pixels a second.
        groups: of all points.
    """
    message = PointTracks()
    message.header = header
    message.image_height, message.image_width = image_size
    message.frame_index = tracks.frame_index
    message.is_final = tracks.final
    message.vx, message.vy = (_array("f", np.float32, column) for column in velocity.T)
    _fill(message, tracks, groups)
    return message


def fill_list(response: ListPoints.Response, queries: Queries, stamp: Time, groups: Groups) -> ListPoints.Response:
    """What is tracked, into the answer of ``~/list_points``."""
    response.image_stamp = stamp
    response.query_frame_index = _array("Q", np.uint64, queries.frame_index)
    _fill(response, queries, groups)
    return response


def float_array(values: NDArray[Any]) -> array[float]:
    """Coordinates as a message takes them."""
    return _array("f", np.float32, values)


def id_array(ids: list[int]) -> array[int]:
    """Ids as a message takes them."""
    return array("Q", ids)


def _fill(message: PointTracks | ListPoints.Response, points: Tracks | Queries, groups: Groups) -> None:
    group, message.group_names = groups.table(points.ids.tolist())
    message.group = _array("I", np.uint32, group)
    message.ids = _array("Q", np.uint64, points.ids)
    message.x = _array("f", np.float32, points.x)
    message.y = _array("f", np.float32, points.y)
    message.visibility = _array("f", np.float32, points.visibility)
    message.visible = _array("B", np.uint8, points.visible)
    message.found = _array("B", np.uint8, points.found)


def _array(code: str, kind: type[np.generic], values: NDArray[Any]) -> array[Any]:
    return array(code, np.ascontiguousarray(values, dtype=kind).tobytes())
