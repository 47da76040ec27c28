"""The kernels for processors without AVX-512, and without AVX2: what other files check when run as programs."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from taptrv2_core.ops import active_backend

FILES = ("shrink", "fused_flow", "fused_refine", "fused_search", "fused_projection", "fused_encoder", "fused_conv")


@pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")
@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_same_with_lesser_instructions(capability: str) -> None:
    """torch reads the variable once, hence a process of its own: one for all, as torch is slow to start."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, timeout=240, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(FILES)


if __name__ == "__main__":
    for name in FILES:
        runpy.run_path(str(Path(__file__).with_name(f"test_{name}.py")), run_name="__main__")
        print(name)
