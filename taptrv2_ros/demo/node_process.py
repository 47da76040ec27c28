"""The real node as a separate process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from taptrv2_ros.demo.errors import DemoError

_LINE = re.compile(r"^\[(?P<level>[A-Z]+)\] \[[\d.]+\] \[[^]]+\]: (?P<text>.*)$")
_FAILURES = ("cannot configure", "cannot activate")
STOP_SECONDS = 10.0


class NodeProcess:
    """Runs ``python -m taptrv2_ros.node`` with parameters; its output goes to a log file, its warnings to a callback.

    As a context manager it is stopped on leaving, by the signal that Ctrl-C sends.
    """

    def __init__(self, parameters: dict[str, object], log: Path, on_warning: Callable[[str], None]) -> None:
        self.warnings: list[str] = []
        self._log = log
        self._on_warning = on_warning
        command = [sys.executable, "-m", "taptrv2_ros.node", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={json.dumps(value)}"]  # JSON is YAML: "0" stays a string
        # Its own session: Ctrl-C in the terminal is ours to pass on, after what was tracked is saved.
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, name="node output", daemon=True)
        self._reader.start()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise DemoError with the node's words if it has ended, or waits in vain for a supervisor to mend it."""
        failures = [text for text in self.warnings if text.startswith(_FAILURES)]
        if failures:
            raise DemoError(f"the node {failures[-1]} (all of its output: {self._log})")
        status = self._process.poll()
        if status is not None:
            self._reader.join(2.0)
            reason = self.warnings[-1] if self.warnings else "it said nothing"
            raise DemoError(f"the node ended with status {status}: {reason} (all of its output: {self._log})")

    def stop(self) -> int:
        """End the node as Ctrl-C does; returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(2.0)
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("w") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                match = _LINE.match(line.rstrip("\n"))
                if match and match["level"] in ("WARN", "ERROR", "FATAL"):
                    self.warnings.append(match["text"])
                    self._on_warning(f"{match['level']}: {match['text']}")
