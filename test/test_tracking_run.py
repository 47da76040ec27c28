"""taptr track: the tracks are the tracker's own, every output holds them, what goes wrong leaves partial results."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from camera_process import camera_image
from tiny import TINY, tiny_model
from track_inputs import street, table_of

from taptrv2_core import Taptr, Tracker, Tracks, threads, track_video
from taptrv2_core.cli import main
from taptrv2_core.drawing import DrawStyle, PointDrawer
from taptrv2_core.encodings import RawImage
from taptrv2_core.errors import ImageError
from taptrv2_core.evaluation.adapter import StreamingTaptr
from taptrv2_core.evaluation.datasets import _tapvid_sample
from taptrv2_core.query_files import Query, read_queries
from taptrv2_core.recordings import Frame, open_recording
from taptrv2_core.threads import ReadAhead, WriteBehind
from taptrv2_core.tracking_run import Follower, PointSource, TrackedFrame
from taptrv2_core.tracking_run.following import DecodedFrame
from taptrv2_core.tracking_run.outputs.table import ParquetTable
from taptrv2_core.tracking_run.points import Label

HEIGHT, WIDTH = 64, 64  # the tiny network's own size
QUERIES = [
    Query(10, 20, 0, name="cup"),
    Query(40.5, 30, 0, group="left"),
    Query(50, 12, 5),
    Query(33, 44, 11),
    Query(20, 50, None, stamp=600_000_000),
]
STARTS = [0, 0, 5, 11, 5]  # a stamp of 0.6 s is that of image 5
XY = [(q.x, q.y) for q in QUERIES]


def decoded(count: int) -> Iterator[DecodedFrame]:
    for index in range(count):
        image = camera_image(index, HEIGHT, WIDTH)
        stamp = (index + 1) * 100_000_000
        source = Frame(stamp, stamp, "camera", RawImage(image.reshape(-1), "rgb8", HEIGHT, WIDTH, 3 * WIDTH))
        yield DecodedFrame(index, source, image)


def follow(points: PointSource, count: int, streaming: bool = False, model: Taptr | None = None) -> list[TrackedFrame]:
    points.begin((HEIGHT, WIDTH))
    follower = Follower(Tracker(model or tiny_model()), points, streaming)
    done = []
    for frame in decoded(count):
        done += follower.push(frame)
        assert len(follower._held) <= 8
    done += follower.finish()
    assert [f.number for f in done] == list(range(count))
    return done


@pytest.mark.parametrize(("count", "motion"), [(5, "none"), (8, "none"), (20, "none"), (16, "flow")])
def test_refined_tracks_are_those_of_the_published_procedure(count: int, motion: str) -> None:
    model = tiny_model(dtype=torch.float64, config=replace(TINY, motion=motion))
    frames = [f.image for f in decoded(count)]
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).double() / 255
    due = [i for i, start in enumerate(STARTS) if start < count]
    starts, xy = torch.tensor(STARTS)[due], torch.tensor(XY)[due]
    expected = track_video(model, video, starts, xy)
    done = follow(PointSource(QUERIES), count, model=model)
    rows = {5: [0, 1, 2, 4], 11: [0, 1, 2, 4, 3]}  # ids in the order of their images
    for frame in done:
        ids = frame.tracks.ids.tolist()
        order = (rows[11] if frame.number >= 11 else rows[5])[: len(ids)]
        columns = [due.index(i) for i in order]
        np.testing.assert_allclose(frame.tracks.xy, expected.xy[frame.number, columns], atol=2e-3)
        np.testing.assert_array_equal(frame.tracks.visible, expected.visible[frame.number, columns])
        assert len(ids) == sum(start <= frame.number for start in STARTS)


def test_streaming_tracks_are_the_trackers_own() -> None:
    video = np.stack([f.image for f in decoded(14)])
    expected = StreamingTaptr(tiny_model()).track(video, np.array(STARTS), np.array(XY, np.float32))
    rows = [0, 1, 2, 4, 3]
    for frame in follow(PointSource(QUERIES), 14, streaming=True):
        columns = rows[: len(frame.tracks.ids)]
        np.testing.assert_allclose(frame.tracks.xy, expected.xy[frame.number, columns], atol=1e-5)
        np.testing.assert_array_equal(frame.tracks.visible, expected.visible[frame.number, columns])


@pytest.mark.parametrize("streaming", [False, True])
def test_seeded_points_are_kept_in_number_and_end_nowhere(streaming: bool) -> None:
    points = PointSource(QUERIES[:2], seed=12)
    done = follow(points, 18, streaming)
    assert points.seeds
    assert {points.labels[i].group for i in range(2, len(points.labels))} == {"auto"}
    assert len(points.labels) > 2 + 4
    for frame in done:
        assert frame.tracks.ids.tolist() == sorted(set(frame.tracks.ids.tolist()))
        assert {0, 1} <= set(frame.tracks.ids.tolist())
        assert np.isfinite(frame.tracks.xy).all()


def test_an_image_of_another_size_ends_the_run_but_loses_nothing() -> None:
    points = PointSource(QUERIES[:1])
    points.begin((HEIGHT, WIDTH))
    follower = Follower(Tracker(tiny_model()), points)
    frames = list(decoded(6))
    done = [t for frame in frames for t in follower.push(frame)]
    with pytest.raises(ImageError, match="32 x 32 pixels, the stream's are 64 x 64"):
        follower.push(DecodedFrame(6, frames[0].source, np.zeros((32, 32, 3), np.uint8)))
    assert len(done + follower.finish()) == 6


def test_reading_ahead_is_bounded_passes_errors_on_and_ends() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i
        raise OSError("the end")

    before = threading.active_count()
    with ReadAhead(numbers(), 3) as ready:
        items = iter(ready)
        assert next(items) == 0
        time.sleep(0.2)
        assert len(made) <= 6
        with pytest.raises(OSError, match="the end"):
            assert list(items) == []
    with ReadAhead(numbers(), 3) as ready:
        next(iter(ready))  # and leave
    assert threading.active_count() == before


def test_writing_behind_keeps_the_order_and_reports_errors_for_good() -> None:
    done: list[int] = []

    def write(item: int) -> None:
        if item == 5:
            raise OSError("disk full")
        done.append(item)

    writer = WriteBehind(write, 2)
    with pytest.raises(OSError, match="disk full"):
        _ = [writer.put(i) for i in range(100)]
    assert done == [0, 1, 2, 3, 4]
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            writer.close()


@pytest.mark.skipif(not threads._WAITED.exists(), reason="needs what Linux counts")
def test_threads_stand_back_until_they_get_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the items is kept, and nothing is done twice."""
    waited: list[float] = []  # by each thread that asks
    monkeypatch.setattr(threads, "_seconds_waited", lambda _: sum(waited))
    done: list[tuple[int, int]] = []

    def work(item: int) -> int:
        done.append((item, os.sched_getscheduler(0)))
        waited.append(0.6 if item == 3 else 0.1)
        return item

    expected = [(i, os.SCHED_IDLE if 1 <= i <= 3 else os.SCHED_OTHER) for i in range(8)]
    before = threading.active_count()
    writer = WriteBehind(work, 2)
    for i in range(8):
        writer.put(i)
    writer.close()
    assert done == expected
    done.clear()
    with ReadAhead(map(work, range(8)), 2) as ready:
        assert list(ready) == list(range(8))
    assert done == expected
    assert threading.active_count() == before


# --- the command ------------------------------------------------------------------------------------------------------


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
        tracks = Tracks(np.arange(count), x + number, -x, x / count, x > 5, number, number * 10)
        source = replace(frame.source, stamp=number * 10)
        table.write(TrackedFrame(number, source, frame.image, tracks))
    table.close()
    file = parquet.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [65536, 65536, 18928]
    rows = file.read().to_pydict()
    np.testing.assert_array_equal(rows["frame"], np.repeat(range(5), count))
    np.testing.assert_array_equal(rows["stamp_ns"], np.repeat(range(0, 50, 10), count))
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
