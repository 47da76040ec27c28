"""Many recordings in worker processes and on a Ray cluster: ``taptr evaluate-bags``."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import sliding_bag
from tiny import tiny_model

from taptrv2_core import save_checkpoint
from taptrv2_core.cli import main
from taptrv2_core.replay.job import Job, Outcome
from taptrv2_core.replay.many import LocalProcesses, Result, local_devices, run_job
from taptrv2_core.replay.merged import mean, render_summary, status, write_summary_csv
from taptrv2_core.replay.ray_runner import RayCluster
from taptrv2_core.replay.results import FILES

SAME_BYTES = ("tracks.csv", "tracks.npz", *(name for name in FILES if name != "timing.json"))
WAIT = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bags, a third of the first one's name, a damaged one, and weights."""
    path = tmp_path_factory.mktemp("many")
    save_checkpoint(tiny_model(), path / "tiny.pt")
    sliding_bag(path / "first", 10, seed=0)
    sliding_bag(path / "second", 10, seed=1)
    sliding_bag(path / "elsewhere" / "first", 10, seed=2)
    (path / "broken.mcap").write_bytes(b"\x89MCAP0\r\n and no more")
    for name in ("first", "second"):
        (path / f"{name}.csv").write_text("x,y\n30,20\n50,40\n")
    return path


def inputs(folder: Path) -> list[str]:
    return [str(folder / name) for name in ("first", "second", "broken.mcap", "elsewhere/first")]


def options(folder: Path, out: Path) -> list[str]:
    return ["--model", str(folder / "tiny.pt"), "--device", "cpu", "--threads", "1", "--out", str(out),
            "--queries", str(folder / "{}.csv")]  # fmt: skip


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local")
    assert main(["evaluate-bags", *inputs(folder), "--workers", "2", *options(folder, out)]) == 2
    return out


def test_each_recording_has_the_bytes_it_has_alone(local: Path, folder: Path, tmp_path: Path) -> None:
    assert main(["evaluate-bag", str(folder / "second"), *options(folder, tmp_path)]) == 0
    for name in SAME_BYTES:
        assert (local / "second" / name).read_bytes() == (tmp_path / name).read_bytes(), name
    assert (local / "first" / "tracks.csv").read_bytes() != (local / "first-2" / "tracks.csv").read_bytes()


def test_a_damaged_recording_is_reported_and_the_others_are_whole(local: Path, folder: Path) -> None:
    with (local / "summary.csv").open() as file:
        rows = {row["recording"]: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "first": "whole", "second": "whole", "broken": "failed", "first-2": "whole",
    }  # fmt: skip
    assert rows["first"]["images"] == "10" and rows["first"]["points"] == "2"
    assert 0 <= float(rows["first"]["lk_agreement.share_easy"]) <= 1
    assert rows["broken"]["lk_agreement.share_easy"] == ""
    assert "broken.mcap: cannot be read as a bag" in rows["broken"]["reason"]
    page = (local / "summary.html").read_text()
    links = re.findall(r'href="([^"]*)"', page)
    assert links == ["first/report.html", "second/report.html", "first-2/report.html"]
    assert all((local / link).is_file() for link in links)
    assert "1 of them could not be evaluated" in page and "mean of 3" in page
    assert not (local / "broken").exists()


def job(folder: Path, bag: str, out: Path) -> Job:
    return Job(
        folder / bag, out, queries=folder / "first.csv", weights=str(folder / "tiny.pt"), device="cpu", threads=1
    )


def test_a_worker_that_is_killed_stops_no_other(folder: Path, tmp_path: Path) -> None:
    runner = LocalProcesses(["cpu"])

    def kill() -> None:
        deadline = time.monotonic() + WAIT
        while not runner.workers and time.monotonic() < deadline:
            time.sleep(0.001)
        for process in runner.workers:
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    jobs = [job(folder, "first", tmp_path / "a"), job(folder, "second", tmp_path / "b")]
    first, second = runner.run(jobs, lambda: False)
    killer.join()
    assert first.job == jobs[0] and first.outcome is None
    assert "worker process died" in first.error
    assert second.job.input == jobs[1].input and second.outcome is not None
    assert (tmp_path / "b" / "report.html").is_file()


def test_interrupt_keeps_what_was_tracked_and_begins_nothing_more(folder: Path, tmp_path: Path) -> None:
    """The command in its own process: it gets SIGINT once an image of the first recording is tracked."""
    sliding_bag(tmp_path / "long", 800)
    words = ["evaluate-bags", str(tmp_path / "long"), str(folder / "second"), "--workers", "1", "--grid", "2"]
    words += ["--model", str(folder / "tiny.pt"), "--device", "cpu", "--out", str(tmp_path / "out"), "--stretch", "0"]
    command = [sys.executable, "-m", "taptrv2_core.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        tracks = tmp_path / "out" / "long" / "partial" / "tracks.csv"
        deadline = time.monotonic() + WAIT
        while not (tracks.is_file() and tracks.stat().st_size > 2000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "partial results: long: interrupted before image" in err
    assert "second: not evaluated: interrupted" in err
    assert "1 partial, 1 failed" in out
    assert (tmp_path / "out" / "long" / "partial" / "report.html").is_file()
    assert 'href="long/partial/report.html"' in (tmp_path / "out" / "summary.html").read_text()


def test_a_second_interrupt_waits_for_no_worker(folder: Path, tmp_path: Path) -> None:
    runner = LocalProcesses(["cpu"])
    sliding_bag(tmp_path / "long", 3000)
    found: list[int] = []

    def stop() -> bool:
        if runner.workers and list(tmp_path.glob("out/partial/tracks.csv")):
            found.extend(runner.workers)
            raise KeyboardInterrupt  # as a signal's handler does
        return False

    with pytest.raises(KeyboardInterrupt):
        list(runner.run([replace(job(folder, "first", tmp_path / "out"), input=tmp_path / "long")], stop))
    assert not Path(f"/proc/{found[0]}").exists()
    tracks = (tmp_path / "out" / "partial" / "tracks.csv").read_text()
    assert 0 <= tracks.count("\n") < 2000


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_interrupt_on_a_cluster_keeps_what_was_tracked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sliding_bag(tmp_path / "long", 3000)
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # its sockets want short paths
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where a worker has its files
    cluster = RayCluster("local", "cpu", threads=1)

    def stop() -> bool:
        return any(tmp_path.glob("taptr_*/results/partial/tracks.csv"))

    try:
        long = replace(job(folder, "first", tmp_path / "out"), input=tmp_path / "long")
        (result,) = cluster.run([long], stop)
    finally:
        cluster.close()
    assert result.outcome is not None and result.outcome.interrupted, result.error
    assert result.outcome.folder == tmp_path / "out" / "partial"
    assert (tmp_path / "out" / "partial" / "report.html").is_file()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_gives_the_same_bytes_and_survives_a_lost_worker(local: Path, folder: Path, tmp_path: Path) -> None:
    """A cluster on this machine; one of its workers is killed while it works, and Ray repeats what it had begun."""
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + WAIT
        while not killed and time.monotonic() < deadline:
            killed.extend(_processes(lambda line: line.startswith("ray::run_elsewhere"))[:1])
            time.sleep(0.01)
        for process in killed:
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert main(["evaluate-bags", *inputs(folder), "--ray", "local", *options(folder, tmp_path)]) == 2
    killer.join()
    assert killed
    for name in ("first", "second", "first-2"):
        for file in SAME_BYTES:
            assert (local / name / file).read_bytes() == (tmp_path / name / file).read_bytes(), (name, file)
    for file in ("summary.csv", "summary.html"):
        assert (local / file).read_bytes() == (tmp_path / file).read_bytes()


def _processes(wanted: Callable[[str], bool]) -> list[int]:
    """Processes of this user by their title."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            title = (entry / "cmdline").read_text()
        except OSError:
            continue
        if entry.name.isdigit() and wanted(title) and entry.stat().st_uid == os.getuid():
            found.append(int(entry.name))
    return found


def test_without_ray_it_says_what_to_install(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["evaluate-bags", str(folder / "first"), "--ray", *options(folder, tmp_path)]) == 1
    assert "needs the Python package ray: pip install ray" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_an_address_without_a_cluster_is_said_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["evaluate-bags", str(folder / "first"), "--ray", address, *options(folder, tmp_path)]) == 1
    assert f"--ray {address}: nothing answers there" in capsys.readouterr().err


def test_results_that_cannot_be_written_are_said_before_any_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taptrv2_core.cli.evaluate_bags._run", lambda *_: pytest.fail("it began"))
    (tmp_path / "taken").touch()
    assert main(["evaluate-bags", str(folder), "--out", str(tmp_path / "taken")]) == 1
    assert "taken: cannot be written: File exists" in capsys.readouterr().err


def test_a_fault_nobody_foresaw_is_one_line_with_its_traceback_in_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero\nand more")

    monkeypatch.setattr("taptrv2_core.replay.evaluate.to_judge", fail)
    answer = run_job(job(folder, "first", tmp_path / "out"), lambda: False)
    assert isinstance(answer, str) and "\n" not in answer
    assert answer.startswith("ZeroDivisionError: division by zero (a fault of this program")
    assert "Traceback" in (tmp_path / "out" / "error.txt").read_text()


def outcome(name: str, jaccard: float, problem: str = "") -> Result:
    figures = {"ground_truth": {"average_jaccard": jaccard}}
    return Result(Job(Path(name), Path(f"/out/{name}")), Outcome(name, Path(f"/out/{name}"), 9, 4, figures, problem))


def test_means_leave_out_what_has_no_figure(tmp_path: Path) -> None:
    failed = Result(Job(Path("c"), Path("/out/<c>")), None, "no images & more")
    results = [outcome("a", 0.5), outcome("b", 0.25, "cut short"), failed, outcome("d", float("nan"))]
    assert mean(results, "ground_truth", "average_jaccard") == 0.375
    assert [status(r) for r in results] == ["whole", "partial", "failed", "whole"]
    page = render_summary(results)
    assert "37.5 %" in page and "b</a> (partial)" in page
    assert "&lt;c&gt;" in page and "no images &amp; more" in page
    write_summary_csv(tmp_path / "s.csv", results)
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["ground_truth.average_jaccard"] for row in rows] == ["0.5", "0.25", "", ""]
    assert rows[1]["reason"] == "cut short"


def test_workers_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert local_devices("auto", 1) == ["cuda:0", "cuda:1"]
    assert local_devices("cuda", 1, 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert local_devices("cuda:1", 1) == ["cuda:1"]
    assert local_devices("cpu", 2) == ["cpu"] * 4
    assert local_devices("cpu", 16) == ["cpu"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert local_devices("auto", 4) == ["cpu"] * 2
