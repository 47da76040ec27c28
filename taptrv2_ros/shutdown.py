"""Waiting for the end: Ctrl-C, SIGTERM, or another thread that says so."""

from __future__ import annotations

import signal
import socket

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Shutdown:
    """Takes over Ctrl-C and SIGTERM for the whole process. Make it, and wait, in the main thread.

    The system may hand a signal to any thread, and Python's handlers run in the main thread once that wakes up. So the
    main thread waits for a byte, which the interpreter writes when a signal arrives, in whichever thread.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Until the first signal or request."""
        self._reader.recv(1)

    def request(self) -> None:
        """End the wait, from any thread."""
        self._writer.send(b"\0")

    def ignore_signals(self) -> None:
        """From now on signals do nothing: a second one, as ros2 launch sends, must not change the exit status."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
