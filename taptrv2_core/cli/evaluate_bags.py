"""``taptr evaluate-bags``: many recordings on all devices of this machine, or on a cluster through Ray."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from taptrv2_core.cli import writing
from taptrv2_core.cli.evaluate_bag import add_job_arguments, check_job_numbers, job_from
from taptrv2_core.cli.interrupt import first_interrupt
from taptrv2_core.cli.options import check_numbers
from taptrv2_core.progress import counting_bar
from taptrv2_core.replay.job import Job
from taptrv2_core.replay.many import INTERRUPTED, LocalProcesses, Result, Runner, local_devices
from taptrv2_core.replay.merged import render_summary, status, write_summary_csv
from taptrv2_core.replay.ray_runner import RayCluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``taptr evaluate-bags``."""
    add = parser.add_argument
    # fmt: off
    add("inputs", nargs="+", type=Path, metavar="BAG",
        help="bags, video files, folders of images. In --queries, --reference and --ground-truth {} stands for "
        "each one's name")
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR",
        help="folder of a folder for each recording, summary.html and summary.csv (default: %(default)s)")
    add("--workers", type=int, metavar="N", help="recordings at a time (default: one a GPU, or one a core)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads of each worker (default %(default)s)")
    add("--ray", nargs="?", const="auto", metavar="ADDRESS",
        help="on a Ray cluster: its address, auto (default) for the one this machine belongs to, local to start one "
        "here. Its machines have to see the files at the same paths")
    # fmt: on
    add_job_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate all. 0: all of them; 2: some failed or are partial; 130: interrupted."""
    check_job_numbers(args)
    check_numbers(args, workers=1)
    jobs = _jobs(args)
    with writing(args.out):  # before hours of work
        args.out.mkdir(parents=True, exist_ok=True)
    if args.ray is not None:
        cluster = RayCluster(args.ray, args.device, args.threads)
        print(cluster.description, file=sys.stderr)
        try:
            results = _run(cluster, jobs)
        finally:
            cluster.close()
    else:
        devices = local_devices(args.device, args.threads, args.workers)
        print(f"{len(devices)} workers: {', '.join(devices)}", file=sys.stderr)
        results = _run(LocalProcesses(devices), jobs)
    code = _report(args.out, results)
    with writing(args.out / "summary.csv"):
        write_summary_csv(args.out / "summary.csv", results)
    with writing(args.out / "summary.html"):
        (args.out / "summary.html").write_text(render_summary(results), encoding="utf-8")
    return code


def _jobs(args: argparse.Namespace) -> list[Job]:
    """One a recording, each with a folder of its own; paths are absolute, for workers elsewhere."""
    args.timing_in_report = False
    jobs: list[Job] = []
    taken: set[str] = set()
    for path in args.inputs:
        job = job_from(args, path, None)
        name = next(n for n in _names(job.out.name) if n not in taken)
        taken.add(name)
        weights = Path(job.weights)
        jobs.append(
            replace(
                job,
                input=path.absolute(),
                out=(args.out / name).absolute(),
                queries=job.queries and job.queries.absolute(),
                references=tuple(path.absolute() for path in job.references),
                truth=job.truth and job.truth.absolute(),
                weights=str(weights.absolute()) if weights.is_file() else job.weights,
            )
        )
    return jobs


def _names(name: str) -> Sequence[str]:
    """A recording's name, and what it is called if others have that name."""
    return [name, *(f"{name}-{i}" for i in range(2, 10_000))]


def _run(runner: Runner, jobs: Sequence[Job]) -> list[Result]:
    """All results in the order of the recordings."""
    results: dict[Path, Result] = {}
    with first_interrupt() as interrupted, counting_bar(len(jobs), "recording") as advance:
        for result in runner.run(jobs, interrupted):
            results[result.job.out] = result
            advance(f"{result.job.out.name}: {result.error or status(result)}")
    return [results[job.out] for job in jobs]


def _report(out: Path, results: Sequence[Result]) -> int:
    for result in results:
        outcome = result.outcome
        if outcome is None:
            print(f"failed: {result.job.out.name}: {result.error}", file=sys.stderr)
            continue
        for note in outcome.notes:
            print(f"note: {outcome.name}: {note}", file=sys.stderr)
        if outcome.problem:
            print(f"partial results: {outcome.name}: {outcome.problem}", file=sys.stderr)
    counts = {kind: sum(status(r) == kind for r in results) for kind in ("whole", "partial", "failed")}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items() if count) + f": {out / 'summary.html'}")
    interrupted = any(r.error == INTERRUPTED or (r.outcome and r.outcome.interrupted) for r in results)
    return 130 if interrupted else 0 if counts["whole"] == len(results) else 2
