"""The CUDA kernels' logic, run on a CPU: a GPU's threads one after another. No GPU, no CUDA."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cuda_on_cpu import build

from taptrv2_core.ops import active_backend

ENVIRONMENT = build.environment()
pytestmark = pytest.mark.skipif(ENVIRONMENT is None, reason="no g++ with AddressSanitizer")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")
def test_kernels_give_what_plain_pytorch_gives(tmp_path: Path) -> None:
    done = run(sys.executable, build.HERE / "compare.py", build.build(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok") == 4 + 3  # number formats: of the ops, of a step


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels with faults, by name."""
    folder = tmp_path_factory.mktemp("faults")
    source, program = folder / "faults.cu", folder / "faults"
    source.write_text(build.translated((build.HERE / "faults.cu").read_text()))
    subprocess.run(["g++", *build.SANITIZERS, str(build.compiled(source)), "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("none", "right"),
        ("barrier", "wrong numbers"),
        ("apart", "other threads wait elsewhere"),
        ("ended", "__shfl_xor_sync: the lane to receive from has ended"),
        ("array", "index 64 out of bounds"),
        ("memory", "heap-buffer-overflow"),
    ],
)
def test_faults_are_noticed(faults: Path, fault: str, said: str) -> None:
    done = run(faults, fault)
    assert (done.returncode == 0) == (fault == "none")
    assert said in done.stdout + done.stderr
