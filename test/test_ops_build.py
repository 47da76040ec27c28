"""What `tools/op_build.py` decides, and what it says."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from setuptools import Distribution

ROOT = Path(__file__).parent.parent
PATH = ROOT / "tools" / "op_build.py"


@pytest.fixture(scope="module")
def op_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("op_build", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_toolkit(folder: Path, whole: bool = True) -> None:
    files = ("bin/nvcc", "include/cuda_runtime.h") if whole else ("bin/nvcc",)
    for name in files:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()


def test_without_compiler_nothing_is_built(
    op_build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAPTRV2_CUDA", "0")
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert op_build.ext_modules() == []
    said = capsys.readouterr().out
    assert "not built" in said
    assert "/nowhere/c++ is not found" in said
    assert "works without them" in said


def test_cuda_can_be_left_out(
    op_build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAPTRV2_CUDA", "0")
    (extension,) = op_build.ext_modules()
    assert "CPU kernels (TAPTRV2_CUDA=0)" in capsys.readouterr().out
    assert not any(source.endswith(".cu") or "/cuda/" in source for source in extension.sources)
    assert all((ROOT / source).is_file() for source in extension.sources)
    assert "build_ext" in op_build.cmdclass()


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_forced_cuda_fails_with_a_cpu_torch(op_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPTRV2_CUDA", "1")
    with pytest.raises(SystemExit, match=r"TAPTRV2_CUDA=1, but torch .* is built without CUDA"):
        op_build.ext_modules()


@pytest.mark.parametrize("missing_toolkit", [False, True])
def test_cuda_is_decided_by_torch_and_toolkit(
    missing_toolkit: bool, op_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a GPU is visible plays no part."""
    from torch.utils import cpp_extension

    if not missing_toolkit:
        make_toolkit(tmp_path)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(op_build, "USUAL_CUDA_HOME", tmp_path / "nowhere")
    monkeypatch.delenv("TAPTRV2_CUDA", raising=False)
    chosen, reason = op_build._cuda_choice()
    assert chosen is not missing_toolkit
    assert ("no CUDA toolkit is found" in reason) is missing_toolkit
    if missing_toolkit:
        monkeypatch.setenv("TAPTRV2_CUDA", "1")
        with pytest.raises(SystemExit, match="no CUDA toolkit is found"):
            op_build.ext_modules()


@pytest.mark.parametrize("where", ["asked for", "found"])
def test_a_toolkit_has_headers_too(
    where: str, op_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nvcc on the path may be a script beside nothing else, which torch takes for the toolkit's."""
    from torch.utils import cpp_extension

    script, toolkit = tmp_path / "local", tmp_path / "cuda"
    make_toolkit(script, whole=False)
    make_toolkit(toolkit)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(script))
    monkeypatch.setattr(op_build, "USUAL_CUDA_HOME", toolkit)
    monkeypatch.delenv("TAPTRV2_CUDA", raising=False)
    if where == "found":
        monkeypatch.delenv("CUDA_HOME", raising=False)
        assert op_build._cuda_choice() == (True, f"CUDA toolkit found in {toolkit}")
        assert str(toolkit) == cpp_extension.CUDA_HOME
        return
    monkeypatch.setenv("CUDA_HOME", str(script))
    chosen, reason = op_build._cuda_choice()
    assert not chosen
    assert reason == (
        f"no CUDA toolkit is found in {script}: bin/nvcc or include/cuda_runtime.h is missing (set CUDA_HOME to the "
        "folder with both)"
    )


def test_wrong_wish_is_refused(op_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPTRV2_CUDA", "yes")
    with pytest.raises(SystemExit, match="must be 0, 1 or unset, got 'yes'"):
        op_build.ext_modules()


@pytest.mark.parametrize("change", ["torch", "wish"])
def test_everything_is_built_anew_for_another_torch_or_wish(
    change: str, op_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are the same, so their dates do not say it."""
    monkeypatch.setenv("TAPTRV2_CUDA", "0")
    forced: list[bool] = []
    build_ext = op_build.cmdclass()["build_ext"]
    monkeypatch.setattr(build_ext, "build_extensions", lambda command: forced.append(bool(command.force)))

    def build() -> None:
        distribution = Distribution({"ext_modules": op_build.ext_modules()})
        command = build_ext(distribution, use_ninja=False)  # ninja looks for itself
        command.build_lib, command.build_temp = str(tmp_path / "lib"), str(tmp_path / "temp")
        command.ensure_finalized()
        command.run()

    build()
    build()
    if change == "torch":
        monkeypatch.setattr(torch, "__version__", "2.99.0+cpu")
    else:
        monkeypatch.setenv("CXX", "c++ -march=native")
    build()
    build()
    assert forced == [True, False, True, False]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
def test_colcon_asks_in_every_build(tmp_path: Path) -> None:
    """Only setup.py knows whether torch or TAPTRV2_CUDA is another than the last time."""
    section = re.search(r"# --- Fused ops -+\n(.*?)\n# ---", (ROOT / "CMakeLists.txt").read_text(), re.DOTALL)
    assert section is not None
    given = f'cmake_minimum_required(VERSION 3.16)\nproject(ops NONE)\nset(Python3_EXECUTABLE "{sys.executable}")\n'
    (tmp_path / "CMakeLists.txt").write_text(given + "set(PYTHON_INSTALL_DIR python)\n" + section[1])
    (tmp_path / "setup.py").write_text("print('asked', file=open('asked', 'a'))")
    for words in (["-S", ".", "-B", "build"], ["--build", "build"], ["--build", "build"]):
        subprocess.run(["cmake", *words], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "asked").read_text().split() == ["asked"] * 2
