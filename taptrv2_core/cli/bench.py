"""``taptr bench``: how fast the tracker is on this machine, beside its peers."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from taptrv2_core.bench.contenders import Contender, contenders
from taptrv2_core.bench.jobs import Job, in_own_process, time_ops, time_steps
from taptrv2_core.bench.machine import describe
from taptrv2_core.bench.report import text, write_json
from taptrv2_core.checkpoint import WEIGHTS, usable_device
from taptrv2_core.cli import CommandError
from taptrv2_core.cli.options import add_input_size, check_numbers, size
from taptrv2_core.config import CONFIGS
from taptrv2_core.fast.inference import choose_dtype
from taptrv2_core.ops import active_backend

GENERATED = Path("generated")
NAMES = ("lk", "plain", "plain-kv", "reference", "fused", "half")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``taptr bench``."""
    add = parser.add_argument
    # fmt: off
    add("--model", "--weights", default="small", metavar="NAME|FILE",
        help=f"{', '.join(CONFIGS)} or a checkpoint file (default %(default)s); those not shipped are random")
    add("--points", type=int, nargs="+", default=[64], metavar="N", help="numbers of points (default 64)")
    add("--image-size", type=size, default=(480, 640), metavar="WxH", help="of the camera (default 640x480)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--threads", type=int, help="of the CPU (default: torch's own choice)")
    add("--frames", type=int, default=200, metavar="N", help="timed for each contender (default %(default)s)")
    add("--seconds", type=float, default=60.0, metavar="S",
        help="stop a contender after so long, but not before 3 frames (default %(default)g)")
    add("--only", nargs="+", choices=NAMES, metavar="WHO",
        help="some of: lk (OpenCV), plain (features of the whole window recomputed each frame), plain-kv (its keys and "
        "values), reference (this tracker, ops in plain PyTorch), fused (float32), half (bfloat16 or float16)")
    add("--ops", action=argparse.BooleanOptionalAction, default=True, help="time the ops alone too")
    offline = parser.add_argument_group("offline").add_argument
    offline("--offline", nargs="?", type=Path, const=GENERATED, metavar="INPUT",
        help="time whole runs of taptr track beside the tracker alone instead, on a bag, a video or a folder of "
        "images; without INPUT on generated images of --image-size")
    offline("--topic", help="image topic, for bags with several")
    offline("--repeats", type=int, default=3, metavar="N", help="runs of each, which take turns (default %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the results")
    # fmt: on
    add_input_size(parser)


def run(args: argparse.Namespace) -> int:
    """Time each contender in a process of its own, print the tables, write the file asked for."""
    _check(args)
    device = usable_device(args.device)
    threads = args.threads or torch.get_num_threads()
    result: dict[str, Any] = {"machine": describe(device, threads), "settings": _settings(args)}
    result |= {"steps": [], "offline": [], "ops": []}
    if args.offline is None:
        _time_steps(args, device, threads, result)
    else:
        result["offline"] = _time_offline(args, device, threads)
    print(text(result))
    if args.json is not None:
        write_json(args.json, result)
    return 0


def _time_steps(args: argparse.Namespace, device: torch.device, threads: int, result: dict[str, Any]) -> None:
    """The tracker's step beside its peers, and the ops alone."""
    chosen = _chosen(args, device)
    for count in args.points:
        for contender in chosen.values():
            print(f"taptr bench: {contender.name}, {contender.dtype}, {count} points", file=sys.stderr)
            result["steps"].append(in_own_process(time_steps, _job(args, contender, count, device, threads)))
    if args.ops:
        fused = active_backend(device) == "fused"
        backends = ["reference", "fused"] if fused else ["reference"]
        dtypes = list(dict.fromkeys(["float32", str(choose_dtype("auto", device)).removeprefix("torch.")]))
        print("taptr bench: the ops alone", file=sys.stderr)
        for count in args.points[:1]:
            job = _job(args, Contender("ops", "keep"), count, device, threads)
            result["ops"] += in_own_process(time_ops, job, backends, dtypes)


def _time_offline(args: argparse.Namespace, device: torch.device, threads: int) -> list[dict[str, Any]]:
    """``taptr track`` beside the tracker alone."""
    from taptrv2_core.bench.recordings import RecordingJob, generated_recording, time_recording  # needs OpenCV

    def tell(text: str) -> None:
        print(f"taptr bench: {text}", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="taptr_bench_") as folder:
        recording = args.offline
        if recording is GENERATED:
            recording = generated_recording(Path(folder), args.image_size, args.frames)
        job = RecordingJob(
            recording,
            args.topic,
            args.frames,
            args.points[0],
            args.model,
            str(device),
            "auto",
            threads,
            args.input_size,
        )
        return time_recording(job, args.repeats, tell)


def _job(args: argparse.Namespace, contender: Contender, count: int, device: torch.device, threads: int) -> Job:
    return Job(
        contender, args.model, count, args.image_size, args.input_size, str(device), threads, args.frames, args.seconds
    )


def _chosen(args: argparse.Namespace, device: torch.device) -> dict[str, Contender]:
    found = contenders(device, active_backend(device) == "fused")
    if importlib.util.find_spec("cv2") is None:
        print("taptr bench: OpenCV is not installed: its LK is left out", file=sys.stderr)
        del found["lk"]
    missing = [name for name in args.only or () if name not in found]
    if missing:
        raise CommandError(f"--only {' '.join(missing)}: cannot run here; there are {', '.join(found)}")
    return {name: found[name] for name in args.only or found}


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    height, width = args.image_size
    shipped = (WEIGHTS / f"{args.model}.pt").is_file() or args.model not in CONFIGS
    network = args.input_size or (CONFIGS[args.model].input_size if args.model in CONFIGS else None)
    generated = args.offline in (None, GENERATED)
    return {
        "model": args.model,
        "weights": "as given" if shipped else "random",
        **({"image": f"{width}x{height}"} if generated else {"recording": str(args.offline)}),
        "input": f"{network[1]}x{network[0]}" if network else "the weights' own",
    }


def _check(args: argparse.Namespace) -> None:
    if args.json is not None and not args.json.parent.is_dir():
        raise CommandError(f"{args.json}: the folder {args.json.parent} does not exist; make it first")
    check_numbers(args, frames=1, threads=1, repeats=1)
    if min(args.points) < 1:
        raise CommandError(f"--points {min(args.points)}: must be at least 1")
    if args.model not in CONFIGS and not Path(args.model).is_file():
        raise CommandError(f"--model {args.model}: neither a file nor one of {', '.join(CONFIGS)}")
