"""Points drawn where they are, in colours that stay theirs; videos that hold what was written."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from taptrv2_core.drawing import DrawnVideo, DrawStyle, PointDrawer, VideoWriter, point_colours, rainbow, write_caption
from taptrv2_core.errors import VideoError

GREY = np.full((120, 160, 3), 90, np.uint8)
PLAIN = DrawStyle(tail=0, brightness=1.0, radius=12.0)
STYLE = DrawStyle(min_width=128)


def draw(drawer: PointDrawer, ids: list[int], xy: list[tuple[float, float]], visible: list[bool]) -> np.ndarray:
    return drawer.draw(GREY, ids, np.array(xy, np.float32).reshape(-1, 2), visible)


def test_a_visible_point_is_a_disc_and_a_hidden_one_a_ring() -> None:
    picture = draw(PointDrawer(PLAIN), [3, 8], [(40, 50), (120, 70)], [True, False])
    three, eight = point_colours([3, 8])
    assert (picture[50, 40] == three).all()
    assert (picture[70, 120] == 90).all()  # a ring is empty
    ring = np.abs(picture[70, 105:118].astype(int) - eight).sum(axis=-1)
    assert ring.min() < 60
    assert (picture[:40] == 90).all()
    assert (GREY == 90).all()  # the image given is left alone


def test_colours_belong_to_ids() -> None:
    many = point_colours(range(64))
    assert (point_colours([7, 63]) == many[[7, 63]]).all()
    assert np.abs(np.diff(many.astype(int), axis=0)).max(axis=1).min() > 80
    red, violet = rainbow([0.0, 1.0]).astype(int)
    assert red[0] > 200 > red[1] + red[2]
    assert violet[2] > 200 > violet[1]


def test_tails_follow_the_points_that_are_seen() -> None:
    drawer = PointDrawer(DrawStyle(brightness=1.0, radius=4.0, tail=3))
    for x in range(20, 100, 20):
        picture = draw(drawer, [1, 2], [(x, 30), (x, 90)], [True, x != 40])
    assert (picture[30, 25:70] != 90).any(axis=-1).all()  # a whole tail, from 20 to 80
    assert (picture[90, 25:55] == 90).all()  # nothing to and from the place where it was hidden
    assert (picture[90, 65:75] != 90).any(axis=-1).all()
    picture = draw(drawer, [2], [(100, 90)], [True])
    assert (picture[30] == 90).all()  # a removed point leaves no tail
    picture = draw(drawer, [1, 2], [(100, 30), (120, 90)], [True, True])
    assert (picture[30, :95] == 90).all()  # nor has it one when it is back


def test_points_far_outside_and_not_finite_do_no_harm() -> None:
    drawer = PointDrawer(DrawStyle(brightness=1.0, labels=True))
    for _ in range(2):
        picture = draw(drawer, [1, 2, 3], [(1e30, -1e30), (np.nan, 5), (80, 60)], [True, True, False])
    assert (picture != 90).any()
    assert draw(drawer, [], [], []).shape == GREY.shape


def test_small_images_are_enlarged_with_their_points() -> None:
    picture = draw(PointDrawer(DrawStyle(min_width=400, brightness=1.0)), [5], [(80, 60)], [True])
    assert picture.shape == (360, 480, 3)
    assert (picture[181, 241] == point_colours([5])).all()
    write_caption(picture, "image 1")
    assert (picture[-12:] > 200).any()


def test_large_images_are_reduced_with_their_points() -> None:
    drawer = PointDrawer(DrawStyle(max_width=100, brightness=1.0, tail=4))
    for x in (90, 120):
        image = np.full((181, 320, 3), 90, np.uint8)  # more than three times as wide: averaged, then interpolated
        image[57:66, 27:36] = 250
        picture = drawer.draw(image, [5], np.array([(x, 100)], np.float32), [True])
    assert picture.shape == (56, 100, 3)  # an even height
    assert (picture[31, 37] == point_colours([5])).all()
    assert (picture[31, 28:34] != 90).any(axis=-1).all()  # its tail
    assert picture[18, 9].max() > 200
    assert (picture[:15] == 90).all()


def test_a_style_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="brightness"):
        DrawStyle(brightness=0)


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_video_holds_what_was_written(tmp_path: Path, size: tuple[int, int]) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    shades = range(40, 240, 20)
    with VideoWriter(path, 12.5) as writer:
        for shade in shades:
            writer.write(np.full((*size, 3), shade, np.uint8))
    assert writer.frames == len(shades)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays while it loads
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert frames[0].shape == (48, 64, 3)
    np.testing.assert_allclose([frame.mean() for frame in frames], shades, atol=4)


def test_videos_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("av")
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(VideoError, match=r"none.*clip\.mp4"):
        VideoWriter(tmp_path / "none" / "clip.mp4", 20).write(image)
    with pytest.raises(ValueError, match="0 images a second"):
        VideoWriter(tmp_path / "clip.mp4", 0)
    with VideoWriter(tmp_path / "clip.mp4", 20) as writer:
        writer.write(image)
        with pytest.raises(VideoError, match="from 16x16 to 18x16"):
            writer.write(np.zeros((16, 18, 3), np.uint8))
    with VideoWriter(tmp_path / "empty.mp4", 20):
        pass
    assert not (tmp_path / "empty.mp4").exists()


def moving_points(video: DrawnVideo, count: int = 12) -> Iterator[np.ndarray]:
    """Images that go to a process, and the same drawn here."""
    drawer = PointDrawer(STYLE)
    ids, visible = [4, 9], [True, False]
    for t in range(count):
        image = np.full((48, 64, 3), (60 + 5 * t) % 256, np.uint8)
        xy = np.array([(10 + 3 * t, 20), (30, 40 - 2 * t)], np.float32)
        video.write(image, ids, xy, visible, f"image {t}")
        picture = drawer.draw(image, ids, xy, visible)
        write_caption(picture, f"image {t}")
        yield picture


def test_a_process_of_its_own_draws_the_same(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = DrawnVideo(tmp_path / "there.mp4", 20, STYLE)
    with VideoWriter(tmp_path / "here.mp4", 20, fast=True) as here:
        for picture in moving_points(video):
            here.write(picture)
    video.close()
    video.close()
    assert video.frames == 12
    assert (tmp_path / "there.mp4").read_bytes() == (tmp_path / "here.mp4").read_bytes()


def test_a_drawn_video_is_whole_where_its_images_break_off(tmp_path: Path) -> None:
    """As when the process that sends them is killed in the middle of one."""
    av = pytest.importorskip("av")
    video = DrawnVideo(tmp_path / "clip.mp4", 20, STYLE)
    _ = list(moving_points(video, 5))
    video._orders.write(pickle.dumps(((96, 128), (48, 64), [4], [(5, 5)], [True], ""))[:-9])
    video.close()
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert len(list(container.decode(video=0))) == 5


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = DrawnVideo(tmp_path / "clip.mp4", 20, STYLE)
    _ = list(moving_points(video, 3))
    with pytest.raises(VideoError, match=r"clip\.mp4: image size changed"):
        video.write(GREY, [4], [(5, 5)], [True], "")
    video.close()


def test_a_process_that_cannot_draw_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = DrawnVideo(tmp_path / "none" / "clip.mp4", 20, STYLE)
    with pytest.raises(VideoError, match=r"none.*clip\.mp4: cannot be written: No such file"):
        _ = list(moving_points(video, 100_000))
    video = DrawnVideo(tmp_path / "clip.mp4", 20, STYLE)
    video._process.kill()
    with pytest.raises(VideoError, match=r"clip\.mp4: the process that draws it has ended, with status -9"):
        _ = list(moving_points(video, 100_000))
    video.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").symlink_to("/dev/full")
    with pytest.raises(VideoError, match=r"clip\.mp4"):
        write_noise(tmp_path / "clip.mp4")


def write_noise(path: Path) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(path, 20) as writer:
        for _ in range(40):
            writer.write(rng.integers(0, 255, (96, 96, 3)).astype(np.uint8))
