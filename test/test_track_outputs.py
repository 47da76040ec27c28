"""The files that ``taptr track`` writes: each holds the same tracks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from track_inputs import decoded, street, table_of

from taptrv2_core import Tracks
from taptrv2_core.cli import main
from taptrv2_core.drawing import DrawStyle, PointDrawer
from taptrv2_core.evaluation.datasets import _tapvid_sample
from taptrv2_core.query_files import read_queries
from taptrv2_core.recordings import open_recording
from taptrv2_core.tracking_run import TrackedFrame
from taptrv2_core.tracking_run.outputs.table import ParquetTable
from taptrv2_core.tracking_run.points import Label


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return street(tmp_path_factory.mktemp("street"))


@pytest.fixture(scope="module")
def tracked(images: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with every output."""
    for module in ("av", "pyarrow", "rosbags", "rerun"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("out")
    queries = folder / "queries.csv"
    queries.write_text("frame,x,y,name,group\n0,10.5,20,cup,left\n0,64,48,,\n6,100,30,door,right\n")
    arguments = [str(images), "--weights", str(weights), "--queries", str(queries), "--bag", "--rerun"]
    assert main(["track", *arguments, "--out", str(folder / "a"), "--table", "parquet"]) == 0
    assert main(["track", *arguments[:5], "--no-overlay", "--out", str(folder / "b")]) == 0
    return folder


def test_every_output_holds_the_same_tracks(tracked: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tracked / "a" / "tracks.parquet").to_pydict()
    rows = table_of(tracked / "b" / "tracks.csv")
    assert (
        table["frame"]
        == [int(row["frame"]) for row in rows]
        == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [f for f in range(6, 14) for _ in range(3)]
    )
    assert table["stamp_ns"] == [50_000_000 * (f + 1) for f in table["frame"]]
    assert table["id"] == [int(row["id"]) for row in rows]
    assert {(i, n, g) for i, n, g in zip(table["id"], table["name"], table["group"], strict=True)} == {
        (0, "cup", "left"), (1, "", ""), (2, "door", "right"),
    }  # fmt: skip
    for name, digits in (("x", 3), ("y", 3), ("visibility", 4)):
        np.testing.assert_allclose(table[name], [float(row[name]) for row in rows], atol=0.51 * 10**-digits)
    assert table["visible"] == [row["visible"] == "1" for row in rows]
    first = next(i for i, p in enumerate(table["id"]) if p == 2)
    np.testing.assert_allclose((table["x"][first], table["y"][first]), (100, 30), atol=1e-3)

    with np.load(tracked / "a" / "tracks.npz") as arrays:
        content = dict(arrays)
    assert content["points"].shape == (3, 14, 2)
    xy = content["points"] * (127, 95)
    for i, frame, x, y, visible in zip(*(table[n] for n in ("id", "frame", "x", "y", "visible")), strict=True):
        np.testing.assert_allclose(xy[i, frame], (x, y), atol=1e-3)
        assert content["occluded"][i, frame] == (not visible)
    assert content["occluded"][2, :6].all()
    np.testing.assert_allclose(content["query_points"], [[0, 20, 10.5], [0, 48, 64], [6, 30, 100]], atol=1e-3)
    assert content["name"].tolist() == ["cup", "", "door"]
    assert content["image_size"].tolist() == [96, 128]
    again = read_queries(tracked / "a" / "tracks.npz")
    assert [(q.frame, q.name, q.group) for q in again] == [(0, "cup", "left"), (0, "", ""), (6, "door", "right")]
    assert content["stamps"].tolist() == [50_000_000 * (f + 1) for f in range(14)]


def test_a_parquet_table_of_several_groups_of_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    count = 30_000
    table = ParquetTable(tmp_path / "t.parquet", {7: Label("seven", "odd")})
    x = np.arange(count, dtype=np.float32)
    frame = next(decoded(1))
    for number in range(5):
        tracks = Tracks(np.arange(count), x + number, -x, x / count, x > 5, x > 2, number, number * 10)
        source = replace(frame.source, stamp=number * 10)
        table.write(TrackedFrame(number, source, frame.image, tracks))
    table.close()
    file = parquet.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [65536, 65536, 18928]
    rows = file.read().to_pydict()
    np.testing.assert_array_equal(rows["frame"], np.repeat(range(5), count))
    np.testing.assert_array_equal(rows["stamp_ns"], np.repeat(range(0, 50, 10), count))
    np.testing.assert_array_equal(rows["found"], np.tile(x > 2, 5))
    np.testing.assert_array_equal(rows["x"], np.concatenate([x + n for n in range(5)]))
    assert [i for i, name in enumerate(rows["name"]) if name] == [7 + n * count for n in range(5)]
    assert rows["group"][7] == "odd"


def test_the_arrays_are_read_as_tap_vids_are(tracked: Path, images: Path) -> None:
    with np.load(tracked / "a" / "tracks.npz") as arrays:
        entry = {"points": arrays["points"], "occluded": arrays["occluded"]}
    with open_recording(images) as recording:
        entry["video"] = np.stack([frame.rgb() for frame in recording.frames])
    sample = _tapvid_sample("here", "street", entry, "first", False)
    assert len(sample.query_frame) == 3
    np.testing.assert_allclose(sample.query_xy[0], (10.5, 20), atol=1e-3)


def test_the_overlay_plays_everywhere_and_shows_the_points(tracked: Path) -> None:
    import av

    path = tracked / "a" / "overlay.mp4"
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # plays before all of it is there
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 20
        assert len([None for _ in container.decode(video=0)]) == 14


def test_the_bag_has_every_image_and_its_tracks(tracked: Path, images: Path) -> None:
    from rosbags.rosbag2 import Reader
    from rosbags.typesys import Stores, get_typestore

    from taptrv2_core.tracking_run.outputs.bag import _typestore

    store = _typestore()
    assert get_typestore(Stores.ROS2_HUMBLE).types.keys() < store.types.keys()
    rows = table_of(tracked / "b" / "tracks.csv")
    with open_recording(tracked / "a" / "tracks_bag") as bag, open_recording(images) as recording:
        assert bag.topic == "/camera/image_raw/compressed"
        for ours, original in zip(bag.frames, recording.frames, strict=True):
            assert (ours.stamp, ours.frame_id) == (original.stamp, original.frame_id)
            assert np.abs(ours.rgb().astype(int) - original.rgb()).mean() < 6
    with Reader(tracked / "a" / "tracks_bag") as reader:
        connections = [c for c in reader.connections if c.topic == "/taptr/tracks"]
        messages = [store.deserialize_cdr(raw, c.msgtype) for c, _, raw in reader.messages(connections)]
        overlays = [c for c in reader.connections if c.topic == "/taptr/overlay/compressed"]
        assert [(c.msgtype, c.msgcount) for c in overlays] == [("sensor_msgs/msg/CompressedImage", 14)]
    with open_recording(tracked / "a" / "tracks_bag", "/taptr/overlay/compressed") as bag:
        overlay = [frame.rgb() for frame in bag.frames]
    drawer = PointDrawer(DrawStyle(labels=True))
    for message, shown, original in zip(messages, overlay, open_recording(images).frames, strict=True):
        expected = drawer.draw(original.rgb(), message.ids, np.stack([message.x, message.y], 1), message.visible)
        assert np.abs(shown.astype(int) - expected).mean() < 6
        assert np.abs(shown.astype(int) - original.rgb()).mean() > 20
    assert [m.frame_index for m in messages] == list(range(14))
    assert all(m.is_final and (m.image_height, m.image_width) == (96, 128) for m in messages)
    flat = [(x, y) for m in messages for x, y in zip(m.x, m.y, strict=True)]
    np.testing.assert_allclose(flat, [(float(r["x"]), float(r["y"])) for r in rows], atol=6e-4)
    last = messages[-1]
    assert [last.group_names[g] for g in last.group] == ["left", "", "right"]
    step = np.subtract((last.x[0], last.y[0]), (messages[-2].x[0], messages[-2].y[0]))
    np.testing.assert_allclose((last.vx[0], last.vy[0]), step / 0.05, rtol=1e-3, atol=1e-2)


def test_an_overlay_that_is_tracked_is_kept_as_it_was(tracked: Path, weights: Path, tmp_path: Path) -> None:
    overlay = "/taptr/overlay/compressed"
    words = ["track", str(tracked / "a" / "tracks_bag"), "--topic", overlay, "--weights", str(weights), "--grid", "2"]
    assert main([*words, "--bag", "--no-overlay", "--out", str(tmp_path)]) == 0
    with (
        open_recording(tracked / "a" / "tracks_bag", overlay) as given,
        open_recording(tmp_path / "tracks_bag", overlay) as kept,
    ):
        for before, after in zip(given.frames, kept.frames, strict=True):
            np.testing.assert_array_equal(after.image.data, before.image.data)


def test_ros_itself_reads_the_bags_messages(tracked: Path) -> None:
    pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package")
    from rclpy.serialization import deserialize_message, serialize_message
    from rosbags.rosbag2 import Reader

    from taptrv2_core.tracking_run.outputs.bag import _typestore
    from taptrv2_ros.msg import PointTracks

    store = _typestore()
    with Reader(tracked / "a" / "tracks_bag") as reader:
        connections = [c for c in reader.connections if c.topic == "/taptr/tracks"]
        for connection, _, raw in reader.messages(connections):
            ours, ros = store.deserialize_cdr(raw, connection.msgtype), deserialize_message(bytes(raw), PointTracks)
            for name in PointTracks.get_fields_and_field_types():
                if name != "header":
                    np.testing.assert_array_equal(np.asarray(getattr(ros, name)), np.asarray(getattr(ours, name)), name)
            assert (ros.header.stamp.sec, ros.header.stamp.nanosec) == (
                ours.header.stamp.sec,
                ours.header.stamp.nanosec,
            )
            assert ros.header.frame_id == ours.header.frame_id == "camera"
            assert len(serialize_message(ros)) == len(raw)  # alike but for padding, which ROS leaves as it finds it


def test_ros_refuses_tracks_recorded_before_they_said_what_was_found() -> None:
    """Which it does because that field is the last; elsewhere it would be read from the bytes of the next."""
    pytest.importorskip("taptrv2_ros.msg", reason="needs ROS 2 and the built package")
    from rclpy.serialization import deserialize_message
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    from taptrv2_core.tracking_run.outputs.bag import _blank, tracks_definition
    from taptrv2_ros.msg import PointTracks

    kind, lines = "taptrv2_ros/msg/PointTracks", tracks_definition().read_text().splitlines()
    for before in (lines, [line for line in lines if not line.startswith("uint8[] found")]):
        store = get_typestore(Stores.ROS2_HUMBLE)
        store.register(get_types_from_msg("\n".join(before), kind))
        arrays = {"ids": np.arange(3, dtype=np.uint64), "visible": np.ones(3, np.uint8), "group_names": ["", "mug"]}
        arrays |= {name: np.ones(3, np.float32) for name in ("x", "y", "vx", "vy", "visibility")}
        arrays |= {"group": np.ones(3, np.uint32)} | ({"found": np.ones(3, np.uint8)} if before is lines else {})
        raw = bytes(store.serialize_cdr(store.types[kind](**(_blank(store, kind) | arrays)), kind))
        if before is lines:
            assert list(deserialize_message(raw, PointTracks).found) == [1, 1, 1]
        else:
            with pytest.raises(Exception, match="failed to deserialize"):
                deserialize_message(raw, PointTracks)


def test_the_summary_says_what_was_done(tracked: Path) -> None:
    about = json.loads((tracked / "a" / "run.json").read_text())
    assert about["complete"]
    assert (about["images"], about["points"], about["stopped"]) == (14, 3, "")
    assert set(about["files"]) == {"Tracks", "Arrays", "Overlay", "Rerun", "Bag"}
    assert not (tracked / "a" / "partial").exists()
    assert (tracked / "a" / "tracks.rrd").stat().st_size > 1000


def test_a_second_run_replaces_the_first(images: Path, weights: Path, tmp_path: Path) -> None:
    for count in ("9", "3"):
        assert main(["track", str(images), "--weights", str(weights), "--out", str(tmp_path), "--grid", "2",
                     "--images", count, "--bag", "--no-overlay"]) == 0  # fmt: skip
    assert {int(row["frame"]) for row in table_of(tmp_path / "tracks.csv")} == {0, 1, 2}
    assert len({row["id"] for row in table_of(tmp_path / "tracks.csv")}) == 4


def test_results_of_an_earlier_run_that_are_not_replaced_are_named(
    images: Path, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tracks.rrd").write_bytes(b"of before")
    assert main(["track", str(images), "--weights", str(weights), "--out", str(tmp_path), "--grid", "2",
                 "--images", "3", "--no-overlay"]) == 0  # fmt: skip
    said = "".join(capfd.readouterr())
    assert f"{tmp_path}: tracks.rrd are an earlier run's, left as they were" in said
    assert (tmp_path / "tracks.rrd").read_bytes() == b"of before"


def test_a_second_run_leaves_nothing_of_the_first_among_its_partial_results(weights: Path, tmp_path: Path) -> None:
    for module in ("pyarrow", "rosbags"):
        pytest.importorskip(module)
    recording = tmp_path / "street"
    recording.mkdir()
    cv2.imwrite(str(street(recording) / "99.png"), np.zeros((48, 64, 3), np.uint8))  # of another size: the end
    for more in (["--table", "parquet", "--bag"], []):
        assert main(["track", str(recording), "--weights", str(weights), "--out", str(tmp_path / "out"),
                     "--grid", "2", "--no-overlay", *more]) == 2  # fmt: skip
    assert {path.name for path in (tmp_path / "out" / "partial").iterdir()} == {"tracks.csv", "tracks.npz", "run.json"}
