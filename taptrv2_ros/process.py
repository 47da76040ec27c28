"""The node's process: executors spin, signals end it, errors in callbacks are survived."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import deque

import rclpy
import rclpy.utilities
from rclpy.executors import Executor, ExternalShutdownException, InvalidHandle  # type: ignore[attr-defined]
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from taptrv2_core.startup import keep_freed_memory
from taptrv2_ros.executors import make_executors
from taptrv2_ros.lifecycle import NAME, TrackerNode
from taptrv2_ros.parameters import ParameterError
from taptrv2_ros.shutdown import Shutdown

_MIB = 2**20
_MOST_FAILURES, _FAILURE_SECONDS = 10, 10.0
_STOP = 30.0  # seconds; loading a network takes some, and is not cut short


def run(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C or SIGTERM. Returns the exit status: 0 after these, 1 if it cannot start or fails."""
    shutdown = Shutdown()
    settle_memory()
    try:
        # Own handlers: rclpy's would shut the context down under the worker, which may be about to publish.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # arguments of --ros-args that ROS cannot read
        print(f"{NAME}: cannot start: {error}", file=sys.stderr)
        return 1
    try:
        return _run(shutdown)
    except ParameterError as error:
        get_logger(NAME).fatal(f"cannot start: {error}")
    except Exception:
        get_logger(NAME).fatal(f"failed: {traceback.format_exc()}")
    finally:
        rclpy.utilities.try_shutdown()
        shutdown.ignore_signals()
    return 1


def settle_memory() -> None:
    """Memory that is used for every frame is kept; the large buffers of a camera, freed when the node is cleaned up, go
    back to the system whole."""
    keep_freed_memory(largest=32 * _MIB, ahead=_MIB)


def _run(shutdown: Shutdown) -> int:
    node = TrackerNode()
    executors = make_executors(node)
    failures: list[str] = []
    threads = [
        threading.Thread(target=_spin, args=(executor, failures, shutdown), name="taptr executor", daemon=True)
        for executor in executors
    ]
    for thread in threads:
        thread.start()
    shutdown.wait()
    for executor in executors:
        executor.shutdown(timeout_sec=_STOP)
    for thread in threads:
        thread.join(_STOP)
    node.stop()
    node.destroy_node()
    for failure in failures:
        get_logger(NAME).fatal(f"failed: {failure}")
    return 1 if failures else 0


def _spin(executor: Executor, failures: list[str], shutdown: Shutdown) -> None:
    """Spin until shutdown. An error in a callback is logged and survived, unless they come one after another."""
    recent: deque[float] = deque(maxlen=_MOST_FAILURES)
    try:
        while not (len(recent) == _MOST_FAILURES and time.monotonic() - recent[0] < _FAILURE_SECONDS):
            try:
                executor.spin()
                return
            except ExternalShutdownException:
                return
            except InvalidHandle:  # a service or subscription went while it was waited for or answered
                get_logger(NAME).debug(traceback.format_exc())
            except Exception:
                recent.append(time.monotonic())
                get_logger(NAME).error(f"a callback failed: {traceback.format_exc()}")
        failures.append(f"{_MOST_FAILURES} callbacks failed within {_FAILURE_SECONDS:g} s")
    finally:
        shutdown.request()
