"""Points in space from a real RGB-D camera: depth 12 ms later than colour, every seventh missing."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taptrv2_core.camera_model import CameraModel
from taptrv2_core.depth import depth_at, points_in_space
from taptrv2_core.encodings import RawImage
from taptrv2_core.regions import points_in_region
from taptrv2_ros.pairing import Pairing

highlevel = pytest.importorskip("rosbags.highlevel")
SIZE = (480, 640)
BOARD = [(160.0, 25.0), (370.0, 75.0), (370.0, 140.0), (165.0, 230.0)]
"""Part of a flat calibration board, in pixels."""


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> dict[str, list[Any]]:
    """Messages by type, in order."""
    messages = defaultdict(list)
    with highlevel.AnyReader([shared_data / "bags" / "rgbd_desk"]) as reader:
        for connection, _, raw in reader.messages():
            messages[connection.msgtype.split("/")[-1]].append(reader.deserialize(raw, connection.msgtype))
    return messages


def stamp(message: Any) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def raw(message: Any) -> RawImage:
    size = (message.height, message.width)
    return RawImage(message.data, message.encoding, *size, message.step, bool(message.is_bigendian))


def test_every_image_is_paired_with_its_own_depth_and_none_with_anothers(recording: dict[str, list[Any]]) -> None:
    events = sorted(
        [(stamp(m), "depth") for m in recording["Image"]] + [(stamp(m), "image") for m in recording["CompressedImage"]]
    )
    pairing: Pairing[int, int] = Pairing(20_000_000)
    pairs = []
    for at, kind in events:
        pairs += pairing.add_depth(at, at) if kind == "depth" else pairing.add_item(at, at)
    assert [image for image, _ in pairs] == [stamp(m) for m in recording["CompressedImage"]]
    assert {depth - image for image, depth in pairs if depth is not None} == {12_000_000}
    assert sum(depth is None for _, depth in pairs) == 4


def test_points_on_a_flat_board_lie_in_a_plane(recording: dict[str, list[Any]]) -> None:
    info, depth = recording["CameraInfo"][0], raw(recording["Image"][0]).depth()
    camera = CameraModel(SIZE, info.k.reshape(3, 3), info.distortion_model, info.d)
    xy = points_in_region(BOARD, SIZE, count=200)
    xyz = points_in_space(camera, xy, depth_at(depth, xy))
    known = np.isfinite(xyz).all(axis=1)
    assert known.mean() > 0.95
    middle = xyz[known].mean(axis=0)
    assert 0.5 < middle[2] < 1.5
    _, _, axes = np.linalg.svd(xyz[known] - middle)
    assert np.sqrt(np.mean(((xyz[known] - middle) @ axes[2]) ** 2)) < 0.012  # at 1 m; the sensor is good for 2 %
    np.testing.assert_allclose(camera.project(xyz[known]), xy[known], atol=1e-6)


def test_most_of_the_image_gets_a_depth_and_holes_and_edges_do_not(recording: dict[str, list[Any]]) -> None:
    depth = raw(recording["Image"][0]).depth()
    xy = points_in_region([(-0.5, -0.5), (639.5, 479.5)], SIZE, spacing=10)
    found = depth_at(depth, xy)
    own = depth.values[tuple(np.rint(xy).astype(int).T[::-1])] * depth.metres
    assert 0.85 < np.isfinite(found).mean() < 0.97
    both = np.isfinite(found) & (own > 0)
    np.testing.assert_allclose(found[both], own[both], rtol=0.06)
    # Around a place that was given up there are holes or several surfaces.
    values = np.pad(depth.values.astype(float), 2)
    for x, y in np.rint(xy[np.isnan(found)]).astype(int):
        patch = values[y : y + 5, x : x + 5]
        assert (patch == 0).sum() >= 5 or patch.max() > 1.03 * patch[patch > 0].min()
