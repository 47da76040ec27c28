"""What `tools/op_build.py` decides, and what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

PATH = Path(__file__).parent.parent / "tools" / "op_build.py"


@pytest.fixture(scope="module")
def op_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("op_build", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert all((PATH.parent.parent / source).is_file() for source in extension.sources)
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
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "nvcc").touch()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("TAPTRV2_CUDA", raising=False)
    chosen, reason = op_build._cuda_choice()
    assert chosen is not missing_toolkit
    assert ("no CUDA toolkit is found" in reason) is missing_toolkit
    if missing_toolkit:
        monkeypatch.setenv("TAPTRV2_CUDA", "1")
        with pytest.raises(SystemExit, match="no CUDA toolkit is found"):
            op_build.ext_modules()


def test_wrong_wish_is_refused(op_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPTRV2_CUDA", "yes")
    with pytest.raises(SystemExit, match="must be 0, 1 or unset, got 'yes'"):
        op_build.ext_modules()
