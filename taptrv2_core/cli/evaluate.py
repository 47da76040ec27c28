"""``taptr evaluate``: our tracker beside the baselines, on the same frames and the same queries."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import cv2
import torch

from taptrv2_core.cli import CommandError, writing
from taptrv2_core.cli.interrupt import first_interrupt
from taptrv2_core.cli.options import add_input_size, check_numbers, network
from taptrv2_core.config import PUBLISHED
from taptrv2_core.evaluation.adapter import RefinedTaptr, StreamingTaptr
from taptrv2_core.evaluation.baselines import LucasKanade, NeverMoves
from taptrv2_core.evaluation.datasets import TAPVID, Dataset, open_dataset, where_to_get
from taptrv2_core.evaluation.generated import synthetic_dataset
from taptrv2_core.evaluation.report import breakdown_table, metrics_table, paper_table, write_csv, write_json
from taptrv2_core.evaluation.runner import MethodResults, evaluate
from taptrv2_core.evaluation.support import WithSupport
from taptrv2_core.evaluation.tracking import PointTracker
from taptrv2_core.model import Taptr
from taptrv2_core.progress import counting_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``taptr evaluate``."""
    add = parser.add_argument
    # fmt: off
    add("dataset", nargs="?", choices=["house", *TAPVID], metavar="DATASET",
        help=f"house (a folder of frames with labels), {', '.join(TAPVID)}")
    add("path", nargs="?", type=Path, metavar="PATH", help="the dataset's folder or pickle file")
    add("--synthetic", action="store_true", help="generated clips that training never shows, instead of a dataset")
    add("--clips", type=int, metavar="N", help="how many generated clips (default 32), or at most so many videos")
    add("--seed", type=int, default=0, help="of the generated clips (default %(default)s)")
    add("--query", choices=["first", "strided"], default="first",
        help="first (default): each track queried where it is first seen; strided: every 5th frame, tracked both ways")
    add("--protocol", choices=["native", "tapvid"],
        help="tapvid (default for TAP-Vid's data sets): frames reduced to 256 x 256 before any method sees them, as in "
        "published tables; native (default elsewhere): frames at their own size. Errors are in pixels at 256 x 256 "
        "either way")
    add("--model", "--weights", default="small", metavar="NAME|FILE",
        help="a shipped name or a checkpoint file (default %(default)s); none: baselines only")
    add("--output", choices=["both", "streaming", "refined"], default="both",
        help="the tracker's streaming output, its refined output, or both (default)")
    add("--support", type=int, default=0, metavar="N",
        help="fill up the tracker's queries with random ones, not scored, to N in all (default: none; published "
        "evaluation: 800)")
    add("--baselines", action=argparse.BooleanOptionalAction, default=True, help="'never moves' and OpenCV's LK too")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--dtype", default="float32", help="float32, bfloat16, float16 or auto, the fastest (default: float32)")
    add("--csv", type=Path, metavar="FILE", help="write the metrics of every video")
    add("--json", type=Path, metavar="FILE", help="write the means and the breakdown")
    # fmt: on
    add_input_size(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the tables, write the files asked for. 0: all videos; 130: interrupted, with what is whole."""
    for file in (args.csv, args.json):
        if file is not None and not file.parent.is_dir():
            raise CommandError(f"{file}: the folder {file.parent} does not exist; make it first")
    check_numbers(args, support=0, clips=1)
    args.protocol = args.protocol or ("tapvid" if args.dataset in TAPVID else "native")
    dataset = _dataset(args)
    model = None if args.model == "none" else network(args)
    trackers = _trackers(args, model)
    if not trackers:
        raise CommandError("--no-baselines with --model none leaves nothing to evaluate")
    videos = dataset.videos if args.clips is None else min(dataset.videos, args.clips)
    samples = itertools.islice(dataset.samples, args.clips)
    with first_interrupt() as interrupted, counting_bar(videos * len(trackers), "run") as advance:
        results = evaluate(trackers, samples, lambda video, method: advance(f"{video}, {method}"), interrupted)
    if results:
        _report(args, dataset, model, results)
    whole = len(results[0].videos) if len(results) == len(trackers) else 0
    if not interrupted() or whole == videos:
        return 0
    rest = "; the table is of the methods that had done the first" if results and not whole else ""
    print(f"taptr evaluate: interrupted after {whole} of {videos} videos{rest}", file=sys.stderr)
    return 130


def _report(args: argparse.Namespace, dataset: Dataset, model: Taptr | None, results: list[MethodResults]) -> None:
    """Print the tables, write the files asked for."""
    about = _about(args, dataset, model, results)
    print(", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in about.items()), end="\n\n")
    tables = [metrics_table(results), breakdown_table(results)]
    if args.protocol == "tapvid":
        tables.append(paper_table(results, dataset.name, args.query))
    print(*tables, sep="\n\n")
    if args.csv is not None:
        with writing(args.csv):
            write_csv(args.csv, results)
    if args.json is not None:
        with writing(args.json):
            write_json(args.json, about, results)


def _dataset(args: argparse.Namespace) -> Dataset:
    if args.synthetic:
        if args.dataset is not None:
            raise CommandError("give either --synthetic or a dataset, not both")
        if args.query == "strided":
            raise CommandError("--query strided: generated clips come with queries of their own; leave it out")
        return synthetic_dataset(args.clips or 32, seed=args.seed)
    if args.dataset is None:
        raise CommandError("give --synthetic, or a dataset and its path: taptr evaluate davis FOLDER")
    if args.path is None:
        raise CommandError(
            f"give the folder of its files too: taptr evaluate {args.dataset} FOLDER. {where_to_get(args.dataset)}"
        )
    return open_dataset(args.dataset, args.path, args.query, args.protocol == "tapvid")


def _trackers(args: argparse.Namespace, model: Taptr | None) -> list[PointTracker]:
    trackers: list[PointTracker] = [NeverMoves(), LucasKanade()] if args.baselines else []
    ours: list[PointTracker] = []
    if model is not None:
        if args.output in ("both", "streaming"):
            ours.append(StreamingTaptr(model))
        if args.output in ("both", "refined"):
            ours.append(RefinedTaptr(model, None if model.config.name == PUBLISHED.name else 1))
    return trackers + ([WithSupport(tracker, args.support) for tracker in ours] if args.support else ours)


def _about(
    args: argparse.Namespace, dataset: Dataset, model: Taptr | None, results: list[MethodResults]
) -> dict[str, Any]:
    device = "cpu" if model is None else str(model.device)
    if device.startswith("cuda"):
        device = torch.cuda.get_device_name(device)
    return {
        "dataset": dataset.name,
        "videos": len(results[0].videos),
        "queries": args.query,
        "support_queries": f"up to {args.support} in all" if args.support else "none",
        "frames": "256 x 256" if args.protocol == "tapvid" else "own size",
        "model": args.model,
        "input": "none" if model is None else f"{model.config.input_size[1]} x {model.config.input_size[0]}",
        "device": device,
        "torch_threads": torch.get_num_threads(),
        "opencv_threads": cv2.getNumThreads(),
    }
