"""Files of true tracks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taptrv2_core.errors import RecordingError
from taptrv2_core.replay.truth import load_truth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,x,y\n", "has no column frame"),
        ("frame,id,x,y\n", "has no rows"),
        ("frame,id,x,y,visible\n0,0,1,1,maybe\n", "line 2: visible is 'maybe'"),
        ("frame,id,x,y\n0,0,,1\n", "line 2: the point is visible but"),
        ("frame,id,x,y\n-1,0,1,1\n", "line 2: frame is -1"),
        ("frame,id,x,y\n0,0,1,1\n0,0,1,1\n", "point 0 has two rows for frame 0"),
        ("frame,id,x,y,visible\n0,4,,,0\n", "point 4 is visible in no frame"),
    ],
)
def test_truth_files_with_faults(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "truth.csv"
    file.write_text(text)
    with pytest.raises(RecordingError, match=re.escape(message)):
        load_truth(file)


def test_truth_with_gaps_is_scored_where_it_was_annotated(tmp_path: Path) -> None:
    file = tmp_path / "truth.csv"
    file.write_text("frame,id,x,y,visible\n2,7,5,6,1\n4,7,,,0\n1,3,1,2,1\n")
    truth = load_truth(file)
    assert truth.ids.tolist() == [3, 7]
    assert truth.query_frame.tolist() == [1, 2]
    assert truth.query_xy.tolist() == [[1, 2], [5, 6]]
    assert truth.annotated.T.tolist() == [[False, True, False, False, False], [False, False, True, False, True]]
    longer = truth.first(7)
    assert longer.frames == 7 and not longer.annotated[5:].any()
    assert truth.first(3).frames == 3
