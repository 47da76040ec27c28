"""Checks the fused ops and the network on this machine's GPU, times them, and prints a short table last.

Called by gpu_check.sh once the ops are built. Needs torch and numpy only; pytest is used if it is there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "test"
TOLERANCE = 1e-4
SUMMARY = re.compile(r"relative error|golden cases|\d (passed|failed)|GB/s")
"""Lines of a step's output that the table at the end repeats."""


def golden() -> None:
    """The published network's stored outputs, computed on the GPU in float32."""
    import json

    import numpy as np
    import torch

    sys.path.insert(0, str(TESTS))
    import golden_inputs  # type: ignore[import-not-found]

    from taptrv2_core import PUBLISHED, Taptr, track_video

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    shapes = json.loads((TESTS / "golden" / "state_dict_shapes.json").read_text())
    model = Taptr(PUBLISHED).eval()
    model.load_state_dict({name: torch.from_numpy(golden_inputs.tensor(name, size)) for name, size in shapes.items()})
    model = model.requires_grad_(False).to("cuda")
    worst = 0.0
    for path in sorted((TESTS / "golden").glob("*.npz")):
        stored = np.load(path)
        frames, height, width, count, last_start, seed = (
            int(stored[key]) for key in ("frames", "height", "width", "queries", "last_start", "seed")
        )
        video = torch.from_numpy(golden_inputs.video(frames, height, width, seed))
        start, position = (torch.from_numpy(a) for a in golden_inputs.queries(count, frames, last_start, seed))
        xy = position * torch.tensor([width - 1.0, height - 1.0])
        tracks = track_video(model, video, start, xy, takeover_interval=max(1, frames // 24))
        pairs = ((tracks.boxes, "boxes"), (tracks.visibility_logits, "visibility_logits"))
        difference = max(float(np.abs(ours.cpu().numpy() - stored[name]).max()) for ours, name in pairs)
        print(f"golden {path.stem}: largest difference {difference:.1e}")
        worst = max(worst, difference)
    if not worst < TOLERANCE:
        raise SystemExit(f"golden: {worst:.1e} is more than {TOLERANCE:.0e}")
    print(f"golden cases in float32: largest difference {worst:.1e}")


def steps() -> list[tuple[str, list[str], int]]:
    """Name, command and time limit in seconds of each step."""
    python = sys.executable
    found = [("ops against plain PyTorch", [python, str(TESTS / "op_cases.py"), "cuda"], 120)]
    if importlib.util.find_spec("pytest"):
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "test_ops.py"), "-k", "cuda"]
        found.append(("op tests", command, 150))
    found.append(("golden cases", [python, str(Path(__file__)), "golden"], 90))
    bench = [python, str(ROOT / "tools" / "bench_ops.py"), "cuda", "--size", "512", "--heads", "8"]
    found.append(("op times", [*bench, "--points", "64", "256", "1024", "--seconds", "0.3"], 90))
    return found


def run(command: list[str], limit: int) -> tuple[str, str]:
    """Output and outcome of a command; what it prints is shown."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryFile("w+") as log:
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=limit, stdout=log, stderr=subprocess.STDOUT
            )
            outcome = "ok" if done.returncode == 0 else f"FAILED (exit code {done.returncode})"
        except subprocess.TimeoutExpired:
            outcome = f"FAILED (stopped after {limit} s)"
        log.seek(0)
        return log.read(), outcome


def main() -> int:
    rows, failed = [], False
    for name, command, limit in steps():
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        output, outcome = run(command, limit)
        print(output, flush=True)
        failed = failed or outcome != "ok"
        rows.append(f"{name:26s} {outcome:30s} {time.monotonic() - start:5.0f} s")
        rows += [f"    {line}" for line in output.splitlines() if SUMMARY.search(line)]
    print("\n== summary")
    print("\n".join(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:] == ["golden"]:
        golden()
    else:
        sys.exit(main())
