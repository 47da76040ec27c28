"""The shell scripts in tools/, in a folder that has only what they need."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
SOURCES = (
    *("requirements/ros.txt", "CMakeLists.txt", "package.xml", "setup.py"),
    *("taptrv2_core/csrc/op.h", "taptrv2_core/old.py"),
)
FOLDERS = ("msg", "srv", "launch", "config", "scripts", "taptrv2_ros")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose install/ is up to date."""
    for name in ("common.sh", "run.sh"):
        (tmp_path / "tools").mkdir(exist_ok=True)
        shutil.copy(TOOLS / name, tmp_path / "tools")
    for file in [*SOURCES, "install/taptrv2_ros/share/taptrv2_ros/package.bash"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    sources = subprocess.run(
        ["bash", "-c", f"source {tmp_path}/tools/common.sh; sources"], capture_output=True, check=True
    )
    (tmp_path / "install/.built-from").write_bytes(sources.stdout)
    return tmp_path


def run(tree: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ROS_DISTRO": "jazzy"}  # the ROS in wheels needs more than this tree has
    return subprocess.run([tree / "tools/run.sh", "echo", "done"], capture_output=True, text=True, env=environment)


def test_a_build_that_is_up_to_date_is_used_without_a_word(tree: Path) -> None:
    done = run(tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("change", ["taptrv2_core/new.py", "taptrv2_core/csrc/op.h", "setup.py"])
def test_a_build_of_older_sources_is_used_and_named(tree: Path, change: str) -> None:
    (tree / change).write_text("# changed\n")
    done = run(tree)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "make build" in done.stderr


def test_what_is_in_a_python_file_needs_no_build(tree: Path) -> None:
    (tree / "taptrv2_core/old.py").write_text("# changed\n")
    assert run(tree).stderr == ""


def test_without_a_build_it_says_what_to_do(tree: Path) -> None:
    shutil.rmtree(tree / "install")
    done = run(tree)
    assert done.returncode == 1
    assert "make build" in done.stderr
