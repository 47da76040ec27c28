"""``taptr track``: the tracks are the tracker's own, offline and streaming, also where points come and go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, tiny_model
from track_inputs import HEIGHT, WIDTH, decoded

from taptrv2_core import Taptr, Tracker, track_video
from taptrv2_core.errors import ImageError
from taptrv2_core.evaluation.adapter import StreamingTaptr
from taptrv2_core.query_files import Query
from taptrv2_core.recordings import open_recording
from taptrv2_core.tracking_run import Follower, PointSource, TrackedFrame
from taptrv2_core.tracking_run.following import DecodedFrame
from taptrv2_core.tracking_run.reading import Decoder

QUERIES = [
    Query(10, 20, 0, name="cup"),
    Query(40.5, 30, 0, group="left"),
    Query(50, 12, 5),
    Query(33, 44, 11),
    Query(20, 50, None, stamp=600_000_000),
]
STARTS = [0, 0, 5, 11, 5]  # a stamp of 0.6 s is that of image 5
XY = [(q.x, q.y) for q in QUERIES]


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


def test_each_problem_of_a_recordings_images_is_told_once(tmp_path: Path) -> None:
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    for number, given in enumerate((image, image // 16, image // 16, image)):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), given)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:-30])
    told: list[str] = []
    with open_recording(tmp_path) as recording:
        decoder = Decoder(recording, None, told.append)
        assert [frame.number for frame in decoder.frames()] == [0, 1, 2]
    assert decoder.left_out == 1
    assert told[0] == "image 1 is nearly black, so that nothing can be tracked in it (said once)"
    assert told[1].startswith("image 3 is left out: ") and len(told) == 2
