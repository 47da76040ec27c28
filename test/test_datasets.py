"""Loaders, on tiny files of the same form as the real ones."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from taptrv2_core.evaluation.datasets import open_dataset
from taptrv2_core.evaluation.pickles import DatasetError, load_arrays

FRAMES, HEIGHT, WIDTH = 12, 40, 60


def entry(seed: int = 0) -> dict[str, np.ndarray]:
    """Three tracks of 12 frames: seen from the start; first seen in frame 4, hidden in 5; never seen."""
    rng = np.random.default_rng(seed)
    occluded = np.zeros((3, FRAMES), bool)
    occluded[1, :4] = occluded[1, 5] = True
    occluded[2] = True
    points = rng.random((3, FRAMES, 2)).astype(np.float32)
    return {
        "video": rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8),
        "points": points,
        "occluded": occluded,
    }


def write(path: Path, data: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    return path


def test_davis_first(tmp_path: Path) -> None:
    video = entry()
    write(tmp_path / "tapvid_davis.pkl", {"goat": video, "judo": entry(1)})
    dataset = open_dataset("davis", tmp_path)
    assert dataset.videos == 2
    samples = list(dataset.samples)
    assert [s.name for s in samples] == ["goat", "judo"]
    sample = samples[0]
    np.testing.assert_array_equal(sample.video, video["video"])
    # Each track where it is first seen; the one never seen gives no query.
    assert sample.query_frame.tolist() == [0, 4]
    pixels = video["points"] * np.array([WIDTH - 1, HEIGHT - 1], np.float32)
    np.testing.assert_allclose(sample.query_xy, [pixels[0, 0], pixels[1, 4]], rtol=1e-6)
    np.testing.assert_allclose(sample.gt_xy, pixels[:2].swapaxes(0, 1), rtol=1e-6)
    np.testing.assert_array_equal(sample.gt_visible, ~video["occluded"][:2].T)
    assert sample.scored.all()
    assert sample.query_mode == "first"


def test_davis_strided_queries_every_fifth_frame(tmp_path: Path) -> None:
    video = entry()
    file = write(tmp_path / "any_name.pkl", {"goat": video})
    (sample,) = open_dataset("davis", file, "strided").samples
    # Frames 0, 5, 10: the first track in all, the second is hidden in 0 and 5.
    assert sample.query_frame.tolist() == [0, 5, 10, 10]
    tracks = [0, 0, 0, 1]
    pixels = video["points"] * np.array([WIDTH - 1, HEIGHT - 1], np.float32)
    np.testing.assert_allclose(sample.query_xy, pixels[tracks, sample.query_frame], rtol=1e-6)
    np.testing.assert_allclose(sample.gt_xy[3], pixels[tracks, 3], rtol=1e-6)
    assert sample.query_mode == "strided"


def test_protocol_of_256_by_256(tmp_path: Path) -> None:
    video = entry()
    video["video"][:] = 7
    video["video"][:, :, WIDTH // 2 :] = 90
    write(tmp_path / "tapvid_davis.pkl", {"goat": video})
    (sample,) = open_dataset("davis", tmp_path, resize=True).samples
    assert sample.video.shape == (FRAMES, 256, 256, 3)
    assert (sample.video[:, :, :120] == 7).all()
    assert (sample.video[:, :, 136:] == 90).all()
    np.testing.assert_allclose(sample.gt_xy[:, 0], video["points"][0] * 255, rtol=1e-6)


def test_kinetics_shards_of_jpeg_files(tmp_path: Path) -> None:
    videos = [entry(i) for i in range(3)]
    for i, video in enumerate(videos):
        video["video"][:] = (10 + i, 100, 200)
        files = [cv2.imencode(".jpg", frame[:, :, ::-1])[1].tobytes() for frame in video["video"]]
        video["video"] = np.array(files) if i else np.array(files, dtype=object)
        video["points"] = video["points"].astype(np.float64)
    write(tmp_path / "0000_of_0002.pkl", videos[:2])
    write(tmp_path / "0001_of_0002.pkl", {"last": videos[2]})
    dataset = open_dataset("kinetics", tmp_path)
    assert dataset.videos == 4  # an estimate: the second shard is not read yet
    for _ in range(2):  # can be gone through again
        samples = list(dataset.samples)
        assert [s.name for s in samples] == ["0000_of_0002/000", "0000_of_0002/001", "last"]
    for i, sample in enumerate(samples):
        assert sample.video.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert np.abs(sample.video.astype(int) - (10 + i, 100, 200)).max() <= 3


def test_rgb_stacking_and_robotap(tmp_path: Path) -> None:
    write(tmp_path / "tapvid_rgb_stacking.pkl", [entry(0), entry(1)])
    names = [s.name for s in open_dataset("rgb-stacking", tmp_path).samples]
    assert names == ["tapvid_rgb_stacking/000", "tapvid_rgb_stacking/001"]
    unpacked = tmp_path / "robotap"
    unpacked.mkdir()
    for split in range(2):
        write(unpacked / f"robotap_split{split}.pkl", {f"video_{split}": entry(split)})
    assert [s.name for s in open_dataset("robotap", tmp_path).samples] == ["video_0", "video_1"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    data = {
        "a": [np.arange(6.0).reshape(2, 3), np.array([b"\xff\xd8x", b"y"]), np.float64(2.5), {1, 2}, (b"\x00\xff",)]
    }
    loaded = load_arrays(write(tmp_path / "x.pkl", data, protocol))["a"]
    np.testing.assert_array_equal(loaded[0], data["a"][0])
    assert loaded[1].tolist() == data["a"][1].tolist()
    assert loaded[2:] == data["a"][2:]


@pytest.mark.parametrize(("written", "other"), [(b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")])
def test_pickles_of_the_other_numpy(tmp_path: Path, written: bytes, other: bytes) -> None:
    content = pickle.dumps(np.arange(4), protocol=2).replace(written, other)
    (tmp_path / "x.pkl").write_bytes(content)
    assert load_arrays(tmp_path / "x.pkl").tolist() == [0, 1, 2, 3]


class _Mischief:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_that_would_run_something_are_refused(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "made_by_a_pickle"
    file = write(tmp_path / "tapvid_davis.pkl", {"goat": _Mischief(victim)}, protocol)
    with pytest.raises(DatasetError, match=r"tapvid_davis\.pkl: not a pickle of arrays: it refers to .*mkdir"):
        open_dataset("davis", tmp_path)
    assert not victim.exists()
    assert file.is_file()


def test_objects_inside_arrays_are_refused_too(tmp_path: Path) -> None:
    victim = tmp_path / "made_by_a_pickle"
    video = entry()
    video["video"] = np.array([_Mischief(victim)], dtype=object)
    write(tmp_path / "tapvid_davis.pkl", {"goat": video})
    with pytest.raises(DatasetError, match="mkdir"):
        open_dataset("davis", tmp_path)
    assert not victim.exists()


def test_missing_data_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no tapvid_davis\.pkl\. Get it from https://.*tapvid_davis\.zip"):
        open_dataset("davis", tmp_path)
    with pytest.raises(DatasetError, match=r"nowhere does not exist\. Get it from .*robotap\.zip"):
        open_dataset("robotap", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"gt_tracks\.npz is missing"):
        open_dataset("house", tmp_path)
    with pytest.raises(DatasetError, match="dataset 'sintel' is not known"):
        open_dataset("sintel", tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "tapvid_davis.pkl", {"goat": entry()})
    whole = file.read_bytes()
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"not a pickle", b"\x80\x04garbage"):
        file.write_bytes(content)
        with pytest.raises(DatasetError, match=r"tapvid_davis\.pkl: "):
            open_dataset("davis", tmp_path)


def test_entries_of_another_form_are_named(tmp_path: Path) -> None:
    def first(data: Any) -> None:
        next(iter(open_dataset("davis", write(tmp_path / "d.pkl", data)).samples))

    with pytest.raises(DatasetError, match=r"d\.pkl: holds a int"):
        first(3)
    with pytest.raises(DatasetError, match=r"d\.pkl: holds no videos"):
        first({})
    with pytest.raises(DatasetError, match=r"goat: a video must be a dict with video, points and occluded"):
        first({"goat": {"video": 1}})
    with pytest.raises(DatasetError, match=r"goat: points must be \(N, 12, 2\)"):
        first({"goat": {**entry(), "points": np.zeros((3, 11, 2))}})
    with pytest.raises(DatasetError, match=r"goat: frames must be \(T, H, W, 3\) uint8"):
        first({"goat": {**entry(), "video": np.zeros((FRAMES, 4, 4, 3))}})
    good = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    with pytest.raises(DatasetError, match=r"goat: frame 1 is not a JPEG"):
        first({"goat": {**entry(), "video": [good, b"bad"]}})
    with pytest.raises(ValueError, match="goat: no track is visible"):
        first({"goat": {**entry(), "occluded": np.ones((3, FRAMES), bool)}})


def labelled_folder(path: Path, frames: int = 5) -> np.ndarray:
    """Grey frames, two tracks, the second without a label in frames 0 and 2. Returns its points (2, T, 2)."""
    (path / "frames").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for t in range(frames):
        cv2.imwrite(str(path / "frames" / f"{t:05d}.png"), rng.integers(0, 256, (48, 64), dtype=np.uint8))
    points = rng.uniform(0, 47, (2, frames, 2)).astype(np.float32)
    annotated = np.ones((2, frames), bool)
    annotated[1, [0, 2]] = False
    np.savez(path / "gt_tracks.npz", points=points, visible=np.ones((2, frames), bool), annotated=annotated)
    return points


def test_labelled_folder(tmp_path: Path) -> None:
    points = labelled_folder(tmp_path / "sequence")
    (sample,) = open_dataset("house", tmp_path / "sequence").samples
    assert sample.name == "sequence"
    assert sample.video.shape == (5, 48, 64, 3)
    assert (sample.video[..., 0] == sample.video[..., 2]).all()
    assert sample.query_frame.tolist() == [0, 1]
    np.testing.assert_array_equal(sample.query_xy, points[[0, 1], [0, 1]])
    assert sample.scored[:, 1].tolist() == [False, True, False, True, True]
    (small,) = open_dataset("house", tmp_path / "sequence", resize=True).samples
    # Pixel (0, 0)'s centre is half a pixel from the corner: x of 64 lies at (x + 0.5) * 4 - 0.5 of 256.
    np.testing.assert_allclose(small.query_xy[0], (points[0, 0] + 0.5) * (4, 256 / 48) - 0.5, rtol=1e-5)


def test_labelled_folder_with_faults(tmp_path: Path) -> None:
    labelled_folder(tmp_path / "short")
    (tmp_path / "short" / "frames" / "00004.png").unlink()
    with pytest.raises(DatasetError, match=r"gt_tracks\.npz: points \(2, 5, 2\).*do not fit 4 frames"):
        open_dataset("house", tmp_path / "short")
    labelled_folder(tmp_path / "broken")
    (tmp_path / "broken" / "frames" / "00002.png").write_bytes(b"?")
    with pytest.raises(DatasetError, match=r"00002\.png: not an image"):
        open_dataset("house", tmp_path / "broken")
    labelled_folder(tmp_path / "other")
    np.savez(tmp_path / "other" / "gt_tracks.npz", tracks=np.zeros(3))
    with pytest.raises(DatasetError, match=r"gt_tracks\.npz: cannot be read as arrays points and visible"):
        open_dataset("house", tmp_path / "other")
