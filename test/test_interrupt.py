"""The second Ctrl-C ends a command at once, whatever its threads are at."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COMMAND = """
import multiprocessing, signal, sys, threading, types
import cv2, numpy as np
from taptrv2_core.cli import COMMANDS, Command, main
from taptrv2_core.cli.interrupt import first_interrupt

multiprocessing.set_start_method("forkserver")  # as by default from Python 3.14 on: processes' locks are then watched

def run(args):
    image, busy = np.zeros((512, 512), np.uint8), threading.Event()
    def work():  # as decoding does: in C++ without Python's lock, which it then asks for in a destructor
        while True:
            cv2.GaussianBlur(image, (31, 31), 0)
            busy.set()
    threading.Thread(target=work, daemon=True).start()
    busy.wait()
    print("begun")
    with first_interrupt():
        for _ in range(2):
            signal.raise_signal(signal.{signal})

sys.modules["busy"] = types.SimpleNamespace(run=run, add_arguments=lambda parser: None)
COMMANDS["track"] = Command("busy", "is busy")
sys.exit(main(["track"]))
"""


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_the_second_interrupt_leaves_no_thread_to_crash(signal: str) -> None:
    command = [sys.executable, "-c", _COMMAND.format(signal=signal)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 130, done.stderr
    assert done.stdout == "begun\n"
    interrupted, last = done.stderr.splitlines()
    assert interrupted.startswith("interrupted: ") and last == "taptr track: interrupted"
