"""References come out of their files as they went in, and what is wrong with one is said in a line."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from taptrv2_core.errors import QueryError
from taptrv2_core.reference_files import read_reference, write_reference

pytest.importorskip("yaml")
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
XY = [(12.5, 8.0), (59.5, -0.5), (1 / 3, 39.0)]
YAML = "image: mug.png\ngroup: mug\npoints:\n- {x: 12.5, y: 8, name: rim}\n- {x: 59.5, y: -0.5}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert cv2.imwrite(str(tmp_path / "mug.png"), PICTURE[..., ::-1])
    return tmp_path


def written(folder: Path, text: str) -> Path:
    (folder / "mug.yaml").write_text(text)
    return folder / "mug.yaml"


def test_is_read(folder: Path) -> None:
    for name in ("mug.png", folder / "mug.png"):
        reference = read_reference(written(folder, YAML.replace("mug.png", str(name))))
        np.testing.assert_array_equal(reference.image, PICTURE)
        assert reference.xy.tolist() == [[12.5, 8.0], [59.5, -0.5]] and reference.xy.dtype == np.float64
        assert (reference.names, reference.group) == (("rim", ""), "mug")
        assert reference.source == str(folder / "mug.yaml")
    plain = read_reference(written(folder, "image: mug.png\npoints: [{x: 1, y: 2, name: 3}]"))
    assert (plain.names, plain.group) == (("3",), "")


def test_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "mug.yaml"
    for group, names in [("", ()), ("5: mug", ("Rücken", "", "no"))]:  # the second replaces the first
        write_reference(path, PICTURE, XY, group, names)
        reference = read_reference(path)
        np.testing.assert_array_equal(reference.image, PICTURE)
        assert reference.xy.tolist() == [list(point) for point in XY]
        assert (reference.names, reference.group) == (names or ("", "", ""), group)
        assert sorted(f.name for f in tmp_path.iterdir()) == ["mug.png", "mug.yaml"]
    assert "image: mug.png\ngroup: '5: mug'\npoints:\n- {x: 12.5, y: 8.0, name: Rücken}\n" in path.read_text("utf-8")


@pytest.mark.parametrize("kind", ["grey", "alpha", "16 bits", "grey 16 bits", "16 bits alpha"])
def test_pictures_of_other_kinds(tmp_path: Path, kind: str) -> None:
    image = PICTURE[..., ::-1]
    if "grey" in kind:
        image = image[..., 0]
    if "alpha" in kind:
        image = np.dstack((image, np.zeros((40, 60), np.uint8)))
    assert cv2.imwrite(str(tmp_path / "mug.png"), image.astype(np.uint16) * 257 if "16" in kind else image)
    read = read_reference(written(tmp_path, YAML)).image
    expected = np.dstack([PICTURE[..., 2]] * 3) if "grey" in kind else PICTURE
    np.testing.assert_array_equal(read, expected)


def test_12_bits_in_16_are_refused_as_nearly_black(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "mug.png"), PICTURE.astype(np.uint16) * 16)
    with pytest.raises(QueryError, match=r"mug\.yaml: its image .*mug\.png cannot be read: picture is nearly black"):
        read_reference(written(tmp_path, YAML))


ENTRY = "image: mug.png\npoints:\n- {x: 1, y: 2}\n- "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {x: 1, y: 2}", "mug.yaml: expected 'image: FILE' and 'points:'"),
        ("image: [", "mug.yaml: not YAML"),
        ("image: 2020-99-99", "mug.yaml: not YAML: month must be in 1..12"),
        ("points: [{x: 1, y: 2}]", "mug.yaml: no 'image'; it names the picture"),
        ("image: {x: 1}\npoints: [{x: 1, y: 2}]", "mug.yaml: image is {'x': 1}, expected text"),
        ("image: cup.png\npoints: [{x: 1, y: 2}]", "cup.png cannot be read: No such file"),
        (
            "image: mug.yaml\npoints: [{x: 1, y: 2}]",
            "mug.yaml cannot be read: compressed image cannot be decoded: format",
        ),
        (
            "image: empty.png\npoints: [{x: 1, y: 2}]",
            "empty.png cannot be read: empty compressed image: format '.png', 0 bytes",
        ),
        ("image: one.png\npoints: [{x: 0, y: 0}]", "one.png cannot be read: image is 1 x 1 pixels; the least is 2 x 2"),
        ('image: "mug\\0.png"\npoints: [{x: 1, y: 2}]', "cannot be read: embedded null byte"),
        ("image: .\npoints: [{x: 1, y: 2}]", "cannot be read: Is a directory"),
        ("image: mug.png", "mug.yaml: no points in it; expected 'points:'"),
        ("image: mug.png\npoints: []", "mug.yaml: no points in it"),
        ("image: mug.png\npoints: {x: 1, y: 2}", "mug.yaml: no points in it"),
        ("image: mug.png\npoint: []", "mug.yaml: 'point' is not known; known are image, group, points"),
        (ENTRY + "5", "mug.yaml, entry 2: expected a point like {x: 120.5, y: 88, name: rim}, got 5"),
        (ENTRY + "{x: 1}", "mug.yaml, entry 2: y is missing"),
        (ENTRY + "{x: .nan, y: 2}", "mug.yaml, entry 2: x is nan, not a number"),
        (ENTRY + "{x: here, y: 2}\n- {x: 60, y: 2}", "entry 2: x is 'here', not a number (bad rows in all: 2)"),
        (ENTRY + "{x: 60, y: 2}", "mug.yaml, entry 2: (60, 2) lies outside the picture of 60 x 40 pixels"),
        (ENTRY + "{x: 1, y: 2, frame: 0}", "mug.yaml, entry 2: 'frame' is not known; known are x, y, name"),
        (ENTRY + "{x: 1, y: 2, name: [a]}", "mug.yaml, entry 2: name is ['a'], expected text"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, text: str, message: str) -> None:
    (folder / "empty.png").write_bytes(b"")
    cv2.imwrite(str(folder / "one.png"), np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(QueryError, match=re.escape(message)) as caught:
        read_reference(written(folder, text))
    assert "\n" not in str(caught.value) and str(folder / "mug.yaml") in str(caught.value)


def test_a_file_that_is_no_reference(folder: Path) -> None:
    with pytest.raises(QueryError, match=r"none\.yaml: cannot be read: No such file"):
        read_reference(folder / "none.yaml")
    (folder / "odd.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(QueryError, match=r"odd\.yaml: cannot be read: 'utf-8'"):
        read_reference(folder / "odd.yaml")
    for path in (folder / "mug.png", "mug"):
        with pytest.raises(QueryError, match=r"a reference is a \.yaml file that names a picture"):
            read_reference(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PICTURE, []), "no points were given"),
        ((PICTURE, [(60.0, 1.0)]), "lie outside the image of 60 x 40 pixels"),
        ((PICTURE, [(np.nan, 1.0)]), "NaN or infinite"),
        ((PICTURE, [(1.0, 1.0)], "", ("a", "b")), "2 names for 1 points"),
        ((PICTURE[..., :2], XY), "image has shape (40, 60, 2)"),
        ((PICTURE / 255, XY), "the picture is float32; expected uint8"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, arguments: tuple[np.ndarray, list[tuple[float, float]]], message: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(message)):
        write_reference(tmp_path / "mug.yaml", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mug.yaml"
    with pytest.raises(QueryError, match=r"none/mug\.png: cannot be written: No such file or directory"):
        write_reference(tmp_path / "none" / "mug.yaml", PICTURE, XY)
    write_reference(path, PICTURE, XY, "first")

    def full(_: int) -> None:
        if (tmp_path / "mug.yaml.partial").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(QueryError, match=r"mug\.yaml: cannot be written: No space left on device"):
        write_reference(path, PICTURE[:, ::-1], XY, "second")
    reference = read_reference(path)
    assert reference.group == "first"
    np.testing.assert_array_equal(reference.image, PICTURE)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["mug.png", "mug.yaml"]


def test_a_folder_of_that_name_is_told_before_the_picture_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mug.yaml").mkdir()
    (tmp_path / "mug.png").write_bytes(b"another's")
    with pytest.raises(QueryError, match=r"mug\.yaml: cannot be written: it is a folder"):
        write_reference(tmp_path / "mug.yaml", PICTURE, XY)
    assert (tmp_path / "mug.png").read_bytes() == b"another's"
