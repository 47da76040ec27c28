"""The CUDA sources compile, for every architecture; needs nvcc, no GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

CSRC = Path(__file__).parent.parent / "taptrv2_core" / "csrc"
KERNELS = sorted((CSRC / "cuda").glob("*.cu"))
ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "120")
NVCC = shutil.which("nvcc")

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no nvcc")


def nvcc(*arguments: str, folder: Path) -> str:
    done = subprocess.run([str(NVCC), *arguments], cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_nvcc
@pytest.mark.timeout(900)
def test_kernels_compile_alone_for_every_architecture(tmp_path: Path) -> None:
    """nvcc alone, no torch header in reach: no warning, and the kernels of the network's sizes keep to registers."""
    known = nvcc("--list-gpu-arch", folder=tmp_path)
    chosen = [a for a in ARCHITECTURES if f"compute_{a}" in known.split()]
    assert {"80", "90"} <= set(chosen), f"nvcc knows only {known.split()}"
    targets = [word for a in chosen for word in ("-gencode", f"arch=compute_{a},code=sm_{a}")]
    said = nvcc("-std=c++17", "-O3", "-Xptxas", "-v", "-t", "2", *targets, "-c", *map(str, KERNELS), folder=tmp_path)
    assert "warning" not in said
    frames = re.findall(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w?'.*?(\d+) bytes stack frame", said, re.S)
    # A vector of several channels a lane: heads of 32 channels. The others take any head, and may spill a little.
    attention = [found for found in frames if re.search("KeyAware|MultiScale", found[0])]
    fast = {(name, a): int(stack) for name, a, stack in attention if "SplitILi1ELi32E" not in name}
    assert {a for _, a in fast} == set(chosen)
    # Three storage types, two ops: forward by groups of lanes and by warps, and backward.
    assert len(fast) == len(chosen) * 3 * 6
    assert not any(fast.values()), fast


@needs_nvcc
@pytest.mark.timeout(300)
def test_wrapper_compiles_with_torch(tmp_path: Path) -> None:
    """The files between torch and the launchers, against torch's CUDA headers, which a CPU build of torch has too."""
    include = Path(torch.__file__).parent / "include"
    if not (include / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h").exists():
        # The one header that only a CUDA build generates: how the library is linked.
        made = tmp_path / "c10" / "cuda" / "impl"
        made.mkdir(parents=True)
        (made / "cuda_cmake_macros.h").write_text("#pragma once\n#define C10_CUDA_BUILD_SHARED_LIBS\n")
    standard = "c++20" if torch.__version__ >= "2.13" else "c++17"
    paths = [f"-I{path}" for path in (tmp_path, include, include / "torch" / "csrc" / "api" / "include")]
    flags = [f"-std={standard}", "-Xcompiler", "-fsyntax-only"]
    for name in ("ops_cuda.cpp", "steps_cuda.cpp"):
        nvcc(*flags, *paths, "-c", str(CSRC / "cuda" / name), folder=tmp_path)


def test_kernels_include_no_torch_header() -> None:
    assert KERNELS
    headers = [CSRC / name for name in ("args.h", "steps.h", "cuda/launch.h", "cuda/launch_steps.h")]
    for path in [*KERNELS, *(CSRC / "cuda").glob("*.cuh"), *headers]:
        included = re.findall(r'#include [<"](.+)[>"]', path.read_text())
        assert not [name for name in included if re.match(r"(torch|ATen|c10|pybind11|Python)", name)], path
