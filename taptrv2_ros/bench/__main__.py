"""The node under a camera over DDS: how much of an image's way to its tracks is not the tracker's own step.

    python -m taptrv2_ros.bench --points 256

The node runs in this process, on one core; camera and client are a process of their own, on another where there is
one. Each image is published when the tracks of the one before have come, so no image waits for another.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import rclpy
import torch
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from taptrv2_ros.bench.camera import PERIOD
from taptrv2_ros.bench.probe import Probe
from taptrv2_ros.bench.table import cpu_rows, print_table, wall_rows
from taptrv2_ros.diagnostics import gpu_memory
from taptrv2_ros.executors import spinning
from taptrv2_ros.lifecycle import TrackerNode
from taptrv2_ros.own_domain import use_own_domain
from taptrv2_ros.process import settle_memory

WARM_UP = 20


def main() -> int:
    """Run it and print the table."""
    args = _arguments()
    cores = sorted(os.sched_getaffinity(0))
    node_cores = cores[: args.cores]
    os.sched_setaffinity(0, set(node_cores))
    use_own_domain()
    settle_memory()
    network = {"weights": args.weights, "device": args.device, "dtype": args.dtype, "threads": args.cores}
    rest = {"autostart": False, "image_reliability": "reliable", "max_points": max(1024, args.points)}
    options = [part for name, value in {**network, **rest}.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
    rclpy.init(args=["--ros-args", *options], signal_handler_options=SignalHandlerOptions.NO)
    node = TrackerNode()
    try:
        if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return 1
        assert node.tracking is not None and node.model is not None
        (camera,) = node.tracking.cameras
        probe = Probe(camera)
        tracker = camera.context.session.tracker
        grid = [(float(x), float(y)) for y in np.linspace(20, args.size[1] - 20, 64)
                for x in np.linspace(20, args.size[0] - 20, 64)]  # fmt: skip
        tracker.add_points([grid[i] for i in np.linspace(0, len(grid) - 1, args.points).astype(int)])
        node.trigger_activate()
        other = next((core for core in cores if core not in node_cores), None)
        with spinning(node):
            outside = _run_camera(args, other)
        _print(args, node, probe, outside)
    finally:
        node.stop()
        node.destroy_node()
        rclpy.shutdown()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m taptrv2_ros.bench", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--points", type=int, default=256, metavar="N", help="tracked points (default %(default)s)")
    add("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"), help="of the images")
    add("--images", type=int, default=300, metavar="N", help="timed (default %(default)s)")
    add("--pause", type=float, default=0.01, metavar="S", help="seconds between tracks and the next image")
    add("--weights", default="small", help="a shipped name or a checkpoint file")
    add("--device", default="auto")
    add("--dtype", default="auto")
    add("--cores", type=int, default=1, metavar="N", help="CPU cores of the node (default %(default)s)")
    add(
        "--json", metavar="FILE", help="write the times of all images, in nanoseconds (wall, CPU of thread and process)"
    )
    return parser.parse_args()


def _run_camera(args: argparse.Namespace, core: int | None) -> list[dict[str, int]]:
    command = [sys.executable, "-m", "taptrv2_ros.bench.camera", "--images", str(args.images + WARM_UP)]
    command += ["--size", *map(str, args.size), "--pause", str(args.pause)]
    if core is not None:
        command += ["--core", str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if sys.stderr.isatty():
                print(f"\r{len(lines)} of {args.images + WARM_UP} images", end="", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"the camera's process ended with status {process.returncode}")
    return [line for line in lines if line["index"] >= WARM_UP]


def _print(args: argparse.Namespace, node: TrackerNode, probe: Probe, outside: list[dict[str, int]]) -> None:
    marks = [probe.times[(line["index"] + 1) * PERIOD] for line in outside]
    assert node.model is not None
    dtype = str(node.model.dtype).removeprefix("torch.")
    print(
        f"\n{args.size[0]} x {args.size[1]} rgb8, {args.points} points, {len(outside)} images, weights "
        f"'{args.weights}' on {node.model.device} in {dtype}, {args.cores} CPU core(s), {torch.get_num_threads()} "
        f"thread(s); load average {os.getloadavg()[0]:.1f}\n"
    )
    print_table("milliseconds", wall_rows(marks, outside))
    for name, value in gpu_memory(node.model.device).items():
        print(f"{name}: {value}")
    if args.cores == 1:  # with more, the step's threads cannot be told from others
        print()
        print_table("milliseconds of CPU time", cpu_rows(marks))
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"inside": marks, "outside": outside}, file)


if __name__ == "__main__":
    sys.exit(main())
