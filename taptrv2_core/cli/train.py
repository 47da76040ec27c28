"""``taptr train``: train a network, from scratch, from weights, or on from where a run stopped."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from taptrv2_core.config import CONFIGS
from taptrv2_core.startup import keep_freed_memory
from taptrv2_core.training.data import ClipSource, SyntheticSource
from taptrv2_core.training.parallel import Workers, join_workers
from taptrv2_core.training.stages import CURRICULA, load_stages
from taptrv2_core.training.trainer import Trainer, TrainingError, TrainOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--config", choices=sorted(CONFIGS), default="small", help="size of the network")
    parser.add_argument("--out", type=Path, default=Path("runs/train"), help="folder for state, log, curve, weights")
    parser.add_argument("--max-minutes", type=float, help="stop, saved, before this time is up")
    parser.add_argument(
        "--resume", type=Path, metavar="PATH", help="--out folder of an earlier run: go on exactly there"
    )
    parser.add_argument(
        "--init", metavar="WEIGHTS", help="start from a weights file or a shipped name instead of scratch"
    )
    parser.add_argument(
        "--stages",
        metavar="NAME|FILE",
        help=f"curriculum: {', '.join(CURRICULA)}, or a JSON file; default by device and config",
    )
    parser.add_argument("--data", default="synthetic", metavar="synthetic|kubric:PATH", help="where clips come from")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of features; positions are fp32")
    parser.add_argument(
        "--generators", type=int, metavar="N",
        help="processes that make clips while the network trains; default: 0 on a CPU, up to 3 on a GPU",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="decides clips and initial weights")
    parser.add_argument("--save-minutes", type=float, default=5.0, help="minutes between saved states")
    parser.add_argument("--measure-minutes", type=float, default=5.0, help="minutes between held-out measurements")


def run(args: argparse.Namespace) -> int:
    """Train. Raises ValueError, OSError or CheckpointError for what the user can put right."""
    began = time.monotonic()
    _check(args)
    keep_freed_memory()  # page faults would cost about half of the time on a CPU
    workers = join_workers(args.device)
    try:
        trainer = Trainer(_options(args, workers, began), workers, _source(args, workers))
        trainer.run()
    except TrainingError as error:
        print(f"taptr train: {error}", file=sys.stderr)
        return 2
    finally:
        workers.close()
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.max_minutes is not None and args.max_minutes <= 0:
        raise ValueError(f"--max-minutes {args.max_minutes:g}: must be above 0")
    if min(args.save_minutes, args.measure_minutes) <= 0:
        raise ValueError("--save-minutes and --measure-minutes must be above 0")
    if args.generators is not None and args.generators < 0:
        raise ValueError(f"--generators {args.generators}: must be 0 or more")
    if args.resume is not None and args.init is not None:
        raise ValueError("--resume goes on with a run's own weights, --init begins a run with others: give one of them")
    if args.data != "synthetic" and not args.data.startswith("kubric:"):
        raise ValueError(f"--data {args.data!r}: use 'synthetic' or 'kubric:PATH'")


def _options(args: argparse.Namespace, workers: Workers, began: float) -> TrainOptions:
    name = args.stages
    if name is None:
        name = "published" if args.config == "published" else ("gpu" if workers.device.type == "cuda" else "cpu")
    generators = args.generators
    if generators is None:
        generators = min(3, (os.cpu_count() or 1) // 4) if workers.device.type == "cuda" else 0
    return TrainOptions(
        stages=load_stages(name), out=args.out, config=CONFIGS[args.config], minutes=args.max_minutes, began=began,
        resume=args.resume, init=args.init, seed=args.seed, bf16=args.precision == "bf16", generators=generators,
        save_minutes=args.save_minutes, measure_minutes=args.measure_minutes,
    )  # fmt: skip


def _source(args: argparse.Namespace, workers: Workers) -> ClipSource:
    if args.data.startswith("kubric:"):
        from taptrv2_core.training.kubric import KubricSource

        return KubricSource(Path(args.data.removeprefix("kubric:")), args.seed, workers.device, workers.rank)
    return SyntheticSource(args.seed, workers.device, workers.rank)
