"""Checks the fused ops and the network on this machine's GPU, times them, and prints a short table last.

Called by gpu_check.sh once the ops are built. Needs torch and numpy only; pytest, OpenCV and a sourced ROS with this
package are used if they are there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "test"
SUMMARY = re.compile(
    r"relative error|golden cases|steps of|pixels at most|^memory |\d (passed|failed)|GB/s|(ERROR|RACECHECK) SUMMARY"
    r"|GPU memory|age of the tracks"
)
"""Lines of a step's output that the table at the end repeats."""


@dataclass
class Step:
    """What is run, and what came of it; limit in seconds."""

    name: str
    command: list[str]
    limit: int
    outcome: str = "not run"
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)


def steps(device: str, folder: Path) -> list[Step]:
    """In the order in which they are run: what is right first, then what is fast."""
    python, cuda = sys.executable, device == "cuda"
    ours = [python, str(ROOT / "tools" / "gpu_steps.py")]
    found = [Step("ops against plain PyTorch", [python, str(TESTS / "op_cases.py"), device], 120)]
    if cuda and importlib.util.find_spec("pytest"):
        tests = [str(TESTS / "test_ops.py"), str(TESTS / "test_steps.py")]
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "cuda or kernel"]
        found.append(Step("op tests", command, 120))
    found.append(Step("golden cases", [*ours, "golden", device], 90))
    found.append(Step("whole steps", [*ours, "parity", device], 90))
    sizes = ["--size", "512", "--heads", "8", "--points", "64", "256", "1024", "--seconds", "0.2"]
    if not cuda:
        sizes = ["--size", "64", "--heads", "4", "--points", "8", "--seconds", "0.01"]
    found.append(Step("op times", [python, str(ROOT / "tools" / "bench_ops.py"), device, *sizes], 90))
    found += benchmarks(device, folder)
    found.append(Step("memory", [*ours, "soak", device], 60))
    found += node(device)
    sanitizer = Path(os.environ.get("CUDA_HOME", "/none")) / "bin" / "compute-sanitizer"
    if cuda and sanitizer.exists():
        command = [str(sanitizer), "--error-exitcode", "9", python, str(TESTS / "op_cases.py"), device]
        found.append(Step("compute-sanitizer", command, 100))
        if importlib.util.find_spec("pytest"):
            tests = [
                python,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                str(TESTS / "test_steps.py"),
                "-k",
                "kernel",
            ]
            for tool in ("memcheck", "racecheck"):
                command = [str(sanitizer), "--tool", tool, "--error-exitcode", "9", *tests]
                found.append(Step(f"compute-sanitizer, {tool} of a step", command, 60))
    return found


def benchmarks(device: str, folder: Path) -> list[Step]:
    """`taptr bench`; images have the networks' own sizes, so that nothing has to resize them."""
    bench = [sys.executable, "-m", "taptrv2_core.cli", "bench", "--device", device, "--no-ops", "--frames", "200"]
    if device == "cpu":
        small = ["--image-size", "64x64", "--input-size", "64x64", "--frames", "3", "--points", "4", "--threads", "1"]
        words = [*bench, "--model", "published", "--only", "fused", *small, "--json", str(folder / "published.json")]
        return [Step("speed, published", words, 120)]
    words = ["--model", "published", "--image-size", "512x512", "--points", "256", "1024", "--only", "half"]
    found = [Step("speed, published", [*bench, *words, "--json", str(folder / "published.json")], 90)]
    if importlib.util.find_spec("cv2"):  # which `small` needs for optical flow
        words = ["--model", "small", "--points", "64", "256", "--only", "lk", "half"]
        found.append(Step("speed, small", [*bench, *words, "--json", str(folder / "small.json")], 90))
    return found


def node(device: str) -> list[Step]:
    """The ROS node over DDS, and what its diagnostics say of the GPU's memory; nothing without ROS and messages."""
    if not all(importlib.util.find_spec(name) for name in ("rclpy", "taptrv2_ros", "taptrv2_ros.msg")):
        return []
    size = ["--points", "256", "--images", "200"] if device == "cuda" else ["--points", "4", "--images", "5"]
    return [Step("node", [sys.executable, "-m", "taptrv2_ros.bench", "--device", device, *size], 90)]


def run(step: Step, left: float) -> str:
    """Run a step, for at most the seconds left, note what came of it, and return its output."""
    if left < 5:
        step.outcome = "not run, no time left"
        return step.outcome
    limit = min(step.limit, left)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if step.name.startswith("compute-sanitizer"):
        environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        try:
            done = subprocess.run(
                step.command, cwd=ROOT, env=environment, timeout=limit, stdout=log, stderr=subprocess.STDOUT
            )
            step.outcome = "ok" if done.returncode == 0 else f"FAILED (exit code {done.returncode})"
        except subprocess.TimeoutExpired:
            # It runs tens of times slower under compute-sanitizer: not having finished says nothing.
            late = "not finished" if step.name.startswith("compute-sanitizer") else "FAILED: not finished"
            step.outcome = f"{late} in {limit:.0f} s"
        log.seek(0)
        output = log.read()
    step.seconds = round(time.monotonic() - start, 1)
    step.lines = [line.strip() for line in output.splitlines() if SUMMARY.search(line)]
    return output


def speed_lines(folder: Path) -> list[str]:
    """One line a row of the benchmarks' files."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        for row in json.loads(path.read_text()).get("steps", []):
            memory = f"{row.get('peak device MiB', row['peak MiB'])} MiB"
            if "reserved device MiB" in row:
                memory += f" allocated, {row['reserved device MiB']} MiB reserved"
            lines.append(
                f"{path.stem} {row['dtype'] or row['name']}, {row['points']} points: {row['p50']:.2f} ms a frame "
                f"(p90 {row['p90']:.2f}, p99 {row['p99']:.2f}), {memory}"
            )
    return lines


def report(done: list[Step], about: dict[str, Any], folder: Path) -> str:
    """The table, also written as Markdown and, with everything else, as JSON."""
    rows = ["| check | outcome | seconds |", "| --- | --- | ---: |"]
    rows += [f"| {step.name} | {step.outcome} | {step.seconds:.0f} |" for step in done]
    speeds = speed_lines(folder)
    details = [line for step in done for line in step.lines]
    machine = ", ".join(f"{key} {value}" for key, value in about.items())
    text = "\n".join([machine, "", *rows, "", *(f"- {line}" for line in [*details, *speeds])])
    (folder / "gpu_check.md").write_text(f"# {about['device']}\n\n{text}\n")
    everything = {"machine": about, "steps": [asdict(step) for step in done], "speed": speeds}
    (folder / "gpu_check.json").write_text(json.dumps(everything, indent=2) + "\n")
    return text


def machine(device: str) -> dict[str, Any]:
    """Device, software and date."""
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return {"device": name, "date": now, "torch": torch.__version__, "CUDA": torch.version.cuda}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cpu", action="store_true", help="small, on the CPU: checks this script, not a GPU")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu_check", help="folder for the results")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="checks with one of these words in their names")
    parser.add_argument("--seconds", type=float, default=440.0, help="for all checks together (default %(default)g)")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    device = "cpu" if args.cpu else "cuda"
    args.out.mkdir(parents=True, exist_ok=True)
    for old in args.out.glob("*.json"):
        old.unlink()
    done = [step for step in steps(device, args.out) if not args.only or any(word in step.name for word in args.only)]
    if not done:
        parser.error(f"no check has one of {args.only} in its name")
    for step in done:
        print(f"\n== {step.name}", flush=True)
        print(run(step, end - time.monotonic()), flush=True)
    print("\n== summary")
    print(report(done, machine(device), args.out))
    print(f"\nalso in {args.out / 'gpu_check.md'} and gpu_check.json")
    return 1 if any(step.outcome.startswith("FAILED") for step in done) else 0


if __name__ == "__main__":
    sys.exit(main())
