"""Camera calibration from messages, and points in space into messages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package: make build, tools/run.sh pytest")
from sensor_msgs.msg import CameraInfo, PointField, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from taptrv2_core import Tracks
from taptrv2_core.camera_model import CalibrationError
from taptrv2_core.depth import DepthImage
from taptrv2_ros.calibration import camera_model, check_registered
from taptrv2_ros.spatial_messages import SpatialPoints, cloud_message, marker_message

K = [600.0, 0.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0]
P = [500.0, 0.0, 310.0, -30.0, 0.0, 500.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def info(**fields: object) -> CameraInfo:
    return CameraInfo(
        width=640, height=480, k=K, p=P, distortion_model="plumb_bob", d=[-0.2, 0.1, 0.0, 0.0, 0.0], **fields
    )


def test_raw_and_rectified_images() -> None:
    raw = camera_model(info(), (480, 640), rectified=False)
    assert raw.distorted
    np.testing.assert_array_equal(raw.matrix, np.array(K).reshape(3, 3))
    rectified = camera_model(info(), (480, 640), rectified=True)
    assert not rectified.distorted
    np.testing.assert_array_equal(rectified.matrix, [[500, 0, 310], [0, 500, 250], [0, 0, 1]])


def test_region_of_interest_and_binning() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=300)
    camera = camera_model(info(roi=roi, binning_x=2, binning_y=2), (150, 200), rectified=False)
    np.testing.assert_allclose(camera.matrix, [[300, 0, 110], [0, 305, 100], [0, 0, 1]])


def test_calibration_that_does_not_fit() -> None:
    with pytest.raises(CalibrationError, match="640 x 480 pixels, but these are 320 x 240"):
        camera_model(info(), (240, 320), rectified=False)
    with pytest.raises(CalibrationError, match="not calibrated"):
        camera_model(CameraInfo(width=640, height=480), (480, 640), rectified=False)
    check_registered(DepthImage(np.zeros((240, 320), np.uint16)), (480, 640))
    with pytest.raises(CalibrationError, match="depth is 1280 x 720 pixels, the images are 640 x 480"):
        check_registered(DepthImage(np.zeros((720, 1280), np.uint16)), (480, 640))


@pytest.fixture
def points() -> SpatialPoints:
    ids = np.array([2, 5, 9], dtype=np.int64)
    x = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    tracks = Tracks(ids, x, x, np.array([0.9, 0.2, 0.8], np.float32), np.array([True, False, True]), x == x, 0, 0)
    xyz = np.array([(0.1, 0.2, 1.5), (np.nan,) * 3, (-0.3, 0.0, 2.0)])
    return SpatialPoints(Header(frame_id="camera"), tracks, np.array([1, 0, 0], np.uint32), ["", "mug"], xyz)


def test_the_cloud_has_all_points_in_order_and_nan_where_there_is_no_place(points: SpatialPoints) -> None:
    message = cloud_message(points)
    assert (message.header.frame_id, message.height, message.width, message.is_dense) == ("camera", 1, 3, False)
    offsets = {f.name: (f.offset, f.datatype) for f in message.fields}
    assert offsets["z"] == (8, PointField.FLOAT32)
    assert offsets["id"] == (12, PointField.UINT32)
    kinds = {PointField.FLOAT32: "<f4", PointField.UINT32: "<u4"}
    layout = np.dtype({
        "names": list(offsets), "formats": [kinds[k] for _, k in offsets.values()],
        "offsets": [o for o, _ in offsets.values()], "itemsize": message.point_step,
    })  # fmt: skip
    records = np.frombuffer(message.data, dtype=layout)
    assert len(message.data) == message.row_step
    assert records["id"].tolist() == [2, 5, 9]
    np.testing.assert_allclose(records["z"], [1.5, np.nan, 2.0])
    np.testing.assert_allclose(records["visibility"], [0.9, 0.2, 0.8], rtol=1e-6)
    assert records["group"].tolist() == [1, 0, 0]


def test_markers_are_spheres_by_group_with_its_name(points: SpatialPoints) -> None:
    clear, plain, mug, label = marker_message(points).markers
    assert clear.action == Marker.DELETEALL
    assert (plain.ns, plain.type, len(plain.points), len(plain.colors)) == ("points", Marker.SPHERE_LIST, 1, 1)
    assert (plain.points[0].x, plain.points[0].z) == (-0.3, 2.0)
    assert (mug.ns, mug.points[0].y, mug.pose.orientation.w) == ("mug", 0.2, 1.0)
    assert (label.type, label.text) == (Marker.TEXT_VIEW_FACING, "mug")
    assert label.pose.position.y < 0.2
    assert {m.header.frame_id for m in (plain, mug, label)} == {"camera"}


def test_a_group_that_is_called_points_hides_no_others(points: SpatialPoints) -> None:
    """RViz keeps one marker of each namespace and id."""
    _, plain, named, label = marker_message(replace(points, group_names=["", "points"])).markers
    assert plain.ns == named.ns == label.ns == "points"
    assert len({marker.id for marker in (plain, named, label)}) == 3
