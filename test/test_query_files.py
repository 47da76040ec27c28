"""Queries come out of every kind of file as they went in, and a bad row is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from taptrv2_core.errors import QueryError
from taptrv2_core.query_files import Query, Schedule, check_queries, grid_queries, read_queries

CSV = "frame,x,y,name,group\n0,10.5,20,cup,left\n\n7,3,4.25,,\n"
YAML = "queries:\n- {x: 10.5, y: 20, name: cup, group: left}\n- {frame: 7, x: 3, y: 4.25}\n"


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def points(queries: list[Query]) -> list[tuple[object, ...]]:
    return [(q.frame, q.stamp, q.x, q.y, q.name, q.group) for q in queries]


EXPECTED = [(0, None, 10.5, 20.0, "cup", "left"), (7, None, 3.0, 4.25, "", "")]


def test_csv(tmp_path: Path) -> None:
    assert points(read_queries(written(tmp_path, "q.csv", "\ufeff" + CSV))) == EXPECTED


@pytest.mark.parametrize("text", [YAML, YAML.split("\n", 1)[1]])
def test_yaml(tmp_path: Path, text: str) -> None:
    pytest.importorskip("yaml")
    assert points(read_queries(written(tmp_path, "q.yaml", text))) == EXPECTED


def test_npz(tmp_path: Path) -> None:
    columns = {"frame": [0, 7], "x": [10.5, 3], "y": [20, 4.25], "name": ["cup", ""], "group": ["left", ""]}
    np.savez(tmp_path / "q.npz", **columns)
    assert points(read_queries(tmp_path / "q.npz")) == EXPECTED
    np.savez(tmp_path / "t.npz", query_points=np.float32([[0, 20, 10.5], [7, 4.25, 3]]))
    assert [p[:4] for p in points(read_queries(tmp_path / "t.npz"))] == [p[:4] for p in EXPECTED]


def test_stamps_are_nanoseconds_or_seconds_and_exact(tmp_path: Path) -> None:
    text = "stamp,x,y\n1700000000123456789,1,2\n1700000000.123456789,1,2\n"
    assert [q.stamp for q in read_queries(written(tmp_path, "q.csv", text))] == [1_700_000_000_123_456_789] * 2


def test_the_schedule_hands_each_out_once_in_its_image() -> None:
    by_frame, by_stamp, never = Query(1, 2, 3), Query(3, 4, None, 5_000_000_100), Query(5, 6, 9)
    schedule = Schedule([by_frame, by_stamp, never])
    assert schedule.due(0, 0) == []
    assert schedule.due(3, 5_000_000_000) == [by_frame, by_stamp]
    assert schedule.due(3, 5_000_000_000) == []
    assert schedule.waiting == [never]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.csv", "frame,x,y\n0,1,2\n0,abc,2\n1,,3\n", "q.csv, line 3: x is 'abc', not a number (bad rows in all: 2)"),
        ("q.csv", "frame,x,y\n1.5,1,2\n", "line 2: frame is '1.5', not a whole number"),
        ("q.csv", "frame,x,y\n-1,1,2\n", "line 2: frame is -1; images are counted from 0"),
        ("q.csv", "frame,x,y\n0,1,nan\n", "line 2: y is 'nan', not a number"),
        ("q.csv", "frame,x,y\n0,1\n", "line 2: y is missing"),
        ("q.csv", "frame,x,y\n0,1,2,3\n", "line 2: more values than columns"),
        ("q.csv", "frame,stamp,x,y\n0,5,1,2\n", "line 2: give frame or stamp, not both"),
        ("q.csv", "fram,x,y\n0,1,2\n", "q.csv: 'fram' is not known; known are frame, stamp"),
        ("q.csv", "frame,x\n0,1\n", "q.csv: no 'y'"),
        ("q.csv", "frame,x,y\n", "q.csv: no queries in it"),
        ("q.csv", "", "q.csv: no 'x'"),
        ("q.yaml", "- {x: 1, y: 2}\n- {x: 1, y: true}\n", "q.yaml, entry 2: y is True, not a number"),
        ("q.yaml", "- {x: 1, y: 2}\n- 5\n", "q.yaml, entry 2: expected a point"),
        ("q.yaml", "x: 5", "expected a list of points"),
        ("q.yaml", "- {x: [", "q.yaml: not YAML"),
        ("q.npz", "not a zip", "q.npz: not an NPZ file"),
        ("q.txt", "", "read from .yaml, .csv or .npz"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=re.escape(message)) as caught:
        read_queries(written(tmp_path, name, text))
    assert "\n" not in str(caught.value)
    assert "pickle" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("none.csv", "none.npz"):
        with pytest.raises(QueryError, match=f"{re.escape(name)}: cannot be read: No such file"):
            read_queries(tmp_path / name)


def test_queries_are_checked_against_the_recording(tmp_path: Path) -> None:
    queries = read_queries(written(tmp_path, "q.csv", "frame,x,y\n0,639.5,0\n99,0,0\n"))
    check_queries(queries, (480, 640), 100)
    check_queries(queries, (480, 640))
    with pytest.raises(QueryError, match=r"line 2: \(639.5, 0\) lies outside the image of 320 x 240"):
        check_queries(queries, (240, 320), 100)
    with pytest.raises(QueryError, match="line 3: frame 99, but the recording has 50 images"):
        check_queries(queries, (480, 640), 50)


def test_a_grid_is_even_and_symmetric() -> None:
    grid = np.array([(q.x, q.y) for q in grid_queries(4, (48, 64))])
    np.testing.assert_allclose(grid[:4, 0], [7.5, 23.5, 39.5, 55.5])
    np.testing.assert_allclose(grid[::4, 1], [5.5, 17.5, 29.5, 41.5])
    np.testing.assert_allclose(grid + grid[::-1], np.tile((63, 47), (16, 1)))
