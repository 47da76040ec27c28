"""The build of the fused ops, used by setup.py and, as `python tools/op_build.py --inplace`, alone.

TAPTRV2_CUDA=1 forces the CUDA kernels or fails, TAPTRV2_CUDA=0 leaves them out; unset, they are built where torch is
built for CUDA and a toolkit (nvcc) is there. Whether a GPU is visible does not matter. TORCH_CUDA_ARCH_LIST chooses the
GPU architectures, MAX_JOBS the number of compilers at work.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCES = Path("taptrv2_core/csrc")
NAME = "taptrv2_core.ops._taptrv2_ops"
CXX_FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wno-psabi", "-fvisibility=hidden"]
# Not linked: at run time torch's own OpenMP library is the one, and a second one would mean a second set of threads.
OPENMP = ["-fopenmp"]
NVCC_FLAGS = ["-O3", "-lineinfo"]
USUAL_CUDA_HOME = Path("/usr/local/cuda")
WISHES = ("CXX", "CUDA_HOME", "TORCH_CUDA_ARCH_LIST")
"""Variables of the environment that what is built depends on, beside the choice of sources."""


def ext_modules() -> list[Any]:
    """The extension to build, or nothing if it cannot be built here; says which, and why."""
    cuda, reason = _cuda_choice()
    missing = _missing_tool()
    if missing:
        if cuda and os.environ.get("TAPTRV2_CUDA") == "1":
            raise SystemExit(f"taptrv2 ops: TAPTRV2_CUDA=1, but {missing}.")
        print(f"taptrv2 ops: not built, {missing}. The package works without them, in plain PyTorch, but slower.")
        return []
    print(f"taptrv2 ops: building {'CUDA and CPU' if cuda else 'CPU'} kernels ({reason}).")
    return [_extension(cuda)]


def cmdclass() -> dict[str, Any]:
    """`build_ext` of torch; empty without torch."""
    try:
        import torch
        from torch.utils.cpp_extension import BuildExtension
    except ImportError:
        return {}

    class Build(BuildExtension):
        """Makes everything anew for another torch or other wishes, of which the dates of files say nothing."""

        def run(self) -> None:
            made_for = Path(self.build_temp) / "made-for"
            wishes = [(extension.sources, extension.extra_compile_args) for extension in self.extensions]
            wanted = repr((torch.__version__, wishes, [os.environ.get(name) for name in WISHES]))
            self.force = self.force or not made_for.exists() or made_for.read_text() != wanted
            self.build_temp = str(made_for.parent / f"torch-{torch.__version__}")
            super().run()
            made_for.parent.mkdir(parents=True, exist_ok=True)
            made_for.write_text(wanted)

    # A plain name: the library has no Python module in it, torch loads it whatever the Python version.
    return {"build_ext": Build.with_options(no_python_abi_suffix=True)}


def _missing_tool() -> str:
    try:
        import torch  # noqa: F401
    except ImportError:
        return "torch is not installed (install torch >= 2.4, then build with --no-build-isolation)"
    compiler = os.environ.get("CXX", "c++").split()
    if not compiler or not all(shutil.which(word) for word in compiler if not word.startswith("-")):
        return (
            f"the C++ compiler {' '.join(compiler) or '(CXX is empty)'} is not found (Debian, Ubuntu: apt install g++)"
        )
    return ""


def _cuda_choice() -> tuple[bool, str]:
    """Whether to build CUDA kernels, and why (not)."""
    wish = os.environ.get("TAPTRV2_CUDA", "")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"taptrv2 ops: TAPTRV2_CUDA must be 0, 1 or unset, got {wish!r}.")
    if wish == "0":
        return False, "TAPTRV2_CUDA=0"
    missing = _missing_cuda()
    if missing and wish == "1":
        raise SystemExit(f"taptrv2 ops: TAPTRV2_CUDA=1, but {missing}.")
    return not missing, missing or f"CUDA toolkit found in {_cuda_home()}"


def _missing_cuda() -> str:
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError:
        return "torch is not installed"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    home = cpp_extension.CUDA_HOME
    if not _is_toolkit(home) and "CUDA_HOME" not in os.environ and _is_toolkit(USUAL_CUDA_HOME):
        cpp_extension.CUDA_HOME = str(USUAL_CUDA_HOME)  # torch was misled by a script named nvcc on the path
    elif not _is_toolkit(home):
        where = f" in {home}: bin/nvcc or include/cuda_runtime.h is missing" if home else ""
        return f"no CUDA toolkit is found{where} (set CUDA_HOME to the folder with both)"
    return ""


def _is_toolkit(home: str | Path | None) -> bool:
    if not home:
        return False
    header, folder = "include/cuda_runtime.h", Path(home)
    return (folder / "bin/nvcc").exists() and any([*folder.glob(header), *folder.glob(f"targets/*/{header}")])


def _cuda_home() -> str:
    from torch.utils import cpp_extension

    return str(cpp_extension.CUDA_HOME)


def _extension(cuda: bool) -> Any:
    from torch.utils import cpp_extension

    sources = _files(["*.cpp", "cpu/*.cpp"] + (["cuda/*.cpp", "cuda/*.cu"] if cuda else []))
    depends = _files(["**/*.h", "**/*.inl", "**/*.cuh"])
    kind = cpp_extension.CUDAExtension if cuda else cpp_extension.CppExtension
    flags = {"cxx": CXX_FLAGS + OPENMP, "nvcc": NVCC_FLAGS}
    if cuda:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", _architectures())
    return kind(NAME, sources, extra_compile_args=flags, depends=depends)


def _files(patterns: list[str]) -> list[str]:
    """Relative to the root, as setuptools wants them."""
    folder = ROOT / SOURCES
    return [str(path.relative_to(ROOT)) for pattern in patterns for path in sorted(folder.glob(pattern))]


def _architectures() -> str:
    """GPU architectures of a build that is to be given to others."""
    if platform.machine() == "aarch64":
        return "8.7"  # Jetson Orin
    import torch

    major, minor = (int(part) for part in str(torch.version.cuda).split(".")[:2])
    return "7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX" if (major, minor) >= (12, 8) else "7.5;8.0;8.6;8.9;9.0+PTX"


def main() -> None:
    if sys.argv[1:] != ["--inplace"]:
        raise SystemExit("usage: python tools/op_build.py --inplace")
    from setuptools import setup

    os.chdir(ROOT)
    extensions = ext_modules()
    if extensions:
        setup(
            name="taptrv2_ops",
            packages=["taptrv2_core", "taptrv2_core.ops"],
            ext_modules=extensions,
            cmdclass=cmdclass(),
            script_args=["build_ext", "--inplace"],
        )


if __name__ == "__main__":
    main()
