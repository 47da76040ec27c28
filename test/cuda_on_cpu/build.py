"""Builds the CUDA ops for a CPU: the kernels and what starts them, with `emulator.h` in place of CUDA.

Loaded after the ops themselves, the library takes the place of their CPU kernels in that process, float16 included.
Sanitizers watch the kernels: the process must have been started with `environment()`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "taptrv2_core" / "csrc"
TORCH = Path(torch.__file__).parent
CUDA_HEADERS = ("cuda_fp16.h", "c10/cuda/CUDAGuard.h", "c10/cuda/CUDAStream.h")
SANITIZERS = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
FLAGS = ["-O0", "-g0", "-fPIC", "-fvisibility=hidden", "-Wno-unknown-pragmas"]
# As for the newest GPUs, which add four numbers at once; words are read where other types were written.
KERNEL_FLAGS = ["-std=c++17", "-fno-strict-aliasing", "-D__CUDA_ARCH__=900", "-DCUDART_VERSION=13000", "-x", "c++"]


def environment() -> dict[str, str] | None:
    """For a process that loads such a library; None where there is no g++, or a process does not start with it."""
    if not shutil.which("g++"):
        return None
    found = (_run("g++", f"-print-file-name={name}").strip() for name in ("libasan.so", "libstdc++.so"))
    # Python and torch free little at their end, and torch allocates by other functions than it frees by.
    options = "detect_leaks=0:alloc_dealloc_mismatch=0:detect_stack_use_after_return=0"
    given = {**os.environ, "LD_PRELOAD": " ".join(found), "ASAN_OPTIONS": options, "OMP_NUM_THREADS": "1"}
    started = subprocess.run(["true"], env=given, capture_output=True, check=False)
    return None if started.returncode or started.stderr else given


def translated(source: str) -> str:
    """CUDA, or what starts it from torch, as C++."""
    launch = r"([^;{}\s][^;{}]*)<<<([^;]+)>>>\(([^;]*)\);"
    source = re.sub(launch, r"emulator::Launch(\2)([&] { \1(\3); });", source)
    source = re.sub(r"__shared__ ([^;]*);", _static, source)
    source = source.replace("TORCH_LIBRARY_IMPL(taptrv2, CUDA,", "TORCH_LIBRARY_IMPL(taptrv2, CPU,")
    return source.replace("!t.is_cpu()", "true")  # float16 is refused on a CPU


def _static(declaration: re.Match[str]) -> str:
    names = re.findall(r"(\w+)(?:\[[^\]]*\])+", declaration[1])
    return f"static {declaration[1]};" + "".join(f" emulator::forget({name});" for name in names)


def build(folder: Path) -> Path:
    """The library, built in `folder`."""
    for path in [*CSRC.glob("*.h"), *CSRC.glob("cuda/*"), CSRC / "prepare.cpp"]:
        copy = folder / path.relative_to(CSRC)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(translated(path.read_text()))
    for name in CUDA_HEADERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('#include "emulator.h"\n')
    library, host = folder / "cuda_on_cpu.so", folder / "host.cpp"
    # In one piece: torch's headers take longer than everything else.
    host.write_text("".join(f'#include "{path.relative_to(folder)}"\n' for path in sorted(folder.glob("**/*.cpp"))))
    standard = "c++20" if torch.__version__ >= "2.13" else "c++17"
    headers = [f"-I{TORCH}/include", f"-I{TORCH}/include/torch/csrc/api/include"]
    objects = [compiled(path) for path in sorted(folder.glob("cuda/*.cu"))]
    objects.append(compiled(host, f"-std={standard}", *headers))
    _run(
        "g++", "-shared", *SANITIZERS, *map(str, objects), f"-L{TORCH}/lib", "-lc10", "-ltorch_cpu", "-o", str(library)
    )
    return library


def compiled(source: Path, *flags: str) -> Path:
    """The object file of a translated source."""
    made = source.with_suffix(".o")
    chosen = [*SANITIZERS, *KERNEL_FLAGS] if source.suffix == ".cu" else []
    found = [f"-I{folder}" for folder in (HERE, source.parent, source.parent.parent)]
    _run("g++", *FLAGS, *found, *flags, *chosen, "-c", str(source), "-o", str(made))
    return made


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, " ".join(command) + "\n" + done.stderr
    return done.stdout
