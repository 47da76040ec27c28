"""The package as people get it: versions, interfaces, what `pip install` and `colcon build` put where."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INTERFACES = sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")])
ROS_CORE = {"rclpy", "ament_index_python", "launch", "launch_ros", "tf2_ros", "diagnostic_updater"}
ROS_OPTIONAL = {"cv_bridge", "message_filters"}


def imported_modules(folder: Path) -> set[str]:
    """Top-level names of everything that Python files under ``folder`` import, at any depth of their code."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.split(".")[0])
    return names


def is_ros(module: str) -> bool:
    return module in ROS_CORE | ROS_OPTIONAL or re.search(r"_(msgs|srvs|interfaces)$", module) is not None


def test_versions_agree() -> None:
    ros = ElementTree.parse(ROOT / "package.xml").findtext("version")
    core = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert core is not None
    assert ros == core[1]


def test_core_imports_no_ros() -> None:
    imports = imported_modules(ROOT / "taptrv2_core")
    assert "torch" in imports
    assert not {name for name in imports if is_ros(name) or name == "taptrv2_ros"}


def test_package_xml_names_every_ros_import() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    named = {element.text for element in package if element.tag in ("depend", "exec_depend")}
    used = {name for folder in ("taptrv2_ros", "launch") for name in imported_modules(ROOT / folder) if is_ros(name)}
    assert "rclpy" in used
    assert used <= named


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_every_field_is_explained(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() not in ("", "---")]
    assert lines[0].startswith("# ")
    fields = [line for line in lines if not line.startswith("#")]
    assert fields
    assert [line for line in fields if not re.fullmatch(r"[\w/]+(\[\])? \w+ +# .{3,}", line)] == []


@pytest.mark.parametrize("name", ["runtime", "ros", "dev"])
def test_requirements_are_pinned(name: str) -> None:
    def names(text: str) -> set[str]:
        lines = [line.split("#")[0].strip() for line in text.splitlines()]
        return {re.split(r"[=<>;\[ ]", line)[0].lower().replace("_", "-") for line in lines if line}

    asked = (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8")
    pinned = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert names(asked) <= names(pinned)
    lines = [line for line in pinned.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.match(r"[\w.-]+(\[\w+\])?==[\w.+!]+( ; .+)?$", line)] == []


def test_pip_install_without_ros_and_compiler(tmp_path: Path) -> None:
    """`pip install .` gives the core alone, also where nothing can be compiled, and the core runs without ROS."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("taptrv2_core", "taptrv2_ros", "tools", "msg"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)],
        check=True,
        capture_output=True,
        env={**os.environ, "CXX": str(tmp_path / "no-such-compiler"), "TAPTRV2_CUDA": "0"},
    )
    assert (target / "taptrv2_core" / "config.py").is_file()
    assert not (target / "taptrv2_ros").exists()
    assert not list(target.rglob("*.so"))
    weights = [path.name for path in (ROOT / "taptrv2_core").glob("weights/*")]
    assert sorted(weights) == sorted(path.name for path in (target / "taptrv2_core").glob("weights/*"))
    [metadata] = target.glob("taptrv2_core-*.dist-info/METADATA")
    needs = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(needs) == 3
    assert {"torch", "numpy"} < set(needs)
    assert {name for name in needs if name.startswith("opencv-")}
    # Here ROS may be installed, so its modules are forbidden rather than missing.
    guard = "import sys; sys.modules.update(dict.fromkeys(['rclpy', 'std_msgs', 'taptrv2_ros'])); "
    check = guard + "import taptrv2_core; print(taptrv2_core.__file__)"
    environment = {"PYTHONPATH": str(target), "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "PATH": os.environ["PATH"]}
    run = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    found = subprocess.run([sys.executable, "-c", check], **run).stdout  # type: ignore[call-overload]
    assert Path(found.strip()).parent == target / "taptrv2_core"
    check = guard + "from taptrv2_core.tracking_run.outputs.bag import tracks_definition; print(tracks_definition())"
    found = subprocess.run([sys.executable, "-c", check], **run).stdout  # type: ignore[call-overload]
    assert Path(found.strip()) == target / "share" / "taptrv2_ros" / "msg" / "PointTracks.msg"
    usage = subprocess.run([target / "bin" / "taptr", "--help"], **run).stdout  # type: ignore[call-overload]
    assert usage.startswith("usage: taptr")


def test_colcon_installs_everything() -> None:
    """Share, executables, messages and both Python packages are where ROS looks for them."""
    index = importlib.import_module("ament_index_python.packages")
    prefix = Path(index.get_package_prefix("taptrv2_ros"))
    share = Path(index.get_package_share_directory("taptrv2_ros"))
    for folder in ("launch", "config"):
        files = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
        assert files
        assert files == {path.name for path in (share / folder).iterdir() if path.is_file()}
    for script in (ROOT / "scripts").iterdir():
        assert os.access(prefix / "lib" / "taptrv2_ros" / script.name, os.X_OK)
    for path in INTERFACES:
        generated = importlib.import_module(f"taptrv2_ros.{path.suffix[1:]}")
        assert hasattr(generated, path.stem)
    [node] = prefix.rglob("taptrv2_ros/node.py")
    [config] = prefix.rglob("taptrv2_core/config.py")
    assert node.parent.parent == config.parent.parent


@pytest.mark.parametrize("script", ["taptr", "evaluate_bag", "click_page", "teach", "add_reference", "tracker_node"])
def test_a_program_without_torch_says_so_in_one_line(tmp_path: Path, script: str) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    words = ["track", "--help"] if script == "taptr" else ["--help"]
    command = [sys.executable, str(ROOT / "scripts" / script), *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "has no torch; install it: pip install 'torch>=2.4'" in line


def test_wheels_are_mended() -> None:
    """No CMake export of the environment points to the machine that built the wheels."""
    exports = list(Path(sys.prefix, "share").glob("*/cmake/*.cmake"))
    if not exports:
        pytest.skip("ROS does not come from wheels here")
    wrong = re.compile(r"/opt/python/|/usr/lib64/|lttng-ust;|OpenSSL::|find_package\(OpenSSL")
    assert [path.name for path in exports if wrong.search(path.read_text(encoding="utf-8"))] == []
