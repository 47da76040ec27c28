"""Points in space as ``PointCloud2`` and as markers."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from taptrv2_core import Tracks
from taptrv2_core.drawing import point_colours
from taptrv2_ros.groups import AUTOMATIC

_FIELDS = (
    ("x", "<f4", PointField.FLOAT32),
    ("y", "<f4", PointField.FLOAT32),
    ("z", "<f4", PointField.FLOAT32),
    ("id", "<u4", PointField.UINT32),
    ("visibility", "<f4", PointField.FLOAT32),
    ("group", "<u4", PointField.UINT32),
)
_RECORD = np.dtype([(name, kind) for name, kind, _ in _FIELDS])
_SPHERE = 0.012  # metres across
_TEXT = 0.03  # metres high


@dataclass(frozen=True)
class SpatialPoints:
    """Tracked points of one image in space; entry i of every array belongs to point ``tracks.ids[i]``."""

    header: Header
    """Of the image: its stamp, and the camera's optical frame."""
    tracks: Tracks
    group: NDArray[np.uint32]
    group_names: list[str]
    xyz: NDArray[np.float64]
    """(N, 3) metres; NaN where hidden or without a certain depth."""

    @property
    def known(self) -> NDArray[np.int64]:
        """Rows with a place."""
        return np.flatnonzero(np.isfinite(self.xyz).all(axis=1))


def cloud_message(points: SpatialPoints) -> PointCloud2:
    """All tracked points in the order of ``PointTracks``, NaN where there is no place."""
    records = np.zeros(len(points.xyz), dtype=_RECORD)
    records["x"], records["y"], records["z"] = points.xyz.T
    records["id"] = points.tracks.ids  # PointCloud2 has no 64-bit integers; ids stay far below 2^32
    records["visibility"] = points.tracks.visibility
    records["group"] = points.group
    message = PointCloud2(header=points.header, height=1, width=len(records), is_bigendian=False)
    message.fields = [
        PointField(name=name, offset=4 * place, datatype=code, count=1) for place, (name, _, code) in enumerate(_FIELDS)
    ]
    message.point_step = _RECORD.itemsize
    message.row_step = records.nbytes
    message.data = array("B", records.tobytes())
    message.is_dense = len(points.known) == len(records)
    return message


def marker_message(points: SpatialPoints) -> MarkerArray:
    """A sphere a point that has a place, in its id's colour; a namespace a group, a client's with its name above it."""
    markers = [Marker(header=points.header, action=Marker.DELETEALL)]
    colours = point_colours(points.tracks.ids) / 255.0
    known = points.known
    for index, name in enumerate(points.group_names):
        rows = known[points.group[known] == index]
        if not len(rows):
            continue
        spheres = _marker(points.header, name or "points", Marker.SPHERE_LIST, _SPHERE)
        spheres.points = [Point(x=x, y=y, z=z) for x, y, z in points.xyz[rows].tolist()]
        spheres.colors = [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in colours[rows].tolist()]
        markers.append(spheres)
        if name not in ("", AUTOMATIC):
            markers.append(_label(points, name, rows))
    for number, marker in enumerate(markers):
        marker.id = number  # viewers keep one of each namespace and id, and a client's group may be called "points" too
    return MarkerArray(markers=markers)


def _label(points: SpatialPoints, name: str, rows: NDArray[np.int64]) -> Marker:
    label = _marker(points.header, name, Marker.TEXT_VIEW_FACING, _TEXT)
    label.text = name
    x, y, z = points.xyz[rows].mean(axis=0)
    top = float(points.xyz[rows, 1].min()) - _TEXT  # y points down
    label.pose.position = Point(x=float(x), y=min(top, float(y)), z=float(z))
    label.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return label


def _marker(header: Header, namespace: str, kind: int, size: float) -> Marker:
    marker = Marker(header=header, ns=namespace, type=kind, action=Marker.ADD)
    marker.scale.x = marker.scale.y = marker.scale.z = size
    marker.pose.orientation.w = 1.0
    return marker
