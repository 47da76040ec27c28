"""The node ``taptr``: camera images in, point tracks out. Run: ``python -m taptrv2_ros.node``, or ros2 launch."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
import warnings
from queue import SimpleQueue

import rclpy
import rclpy.utilities
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from taptrv2_core import CheckpointError, Taptr, load_model
from taptrv2_ros.camera import Camera
from taptrv2_ros.parameters import ParameterError, Parameters, declare

NAME = "taptr"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_THREADS = 3  # images, requests about points, and the node's own parameter services


class TrackerNode(Node):
    """Declares the parameters, loads the network and serves a camera with it.

    Raises ParameterError, CheckpointError or ValueError (device) when it cannot start, with a message for the user.
    """

    def __init__(self) -> None:
        super().__init__(NAME)
        parameters = declare(self)
        self._camera = Camera(self, self._load(parameters), parameters)

    def stop(self) -> None:
        """End tracking; call it before the context is shut down."""
        self._camera.stop()

    def _load(self, parameters: Parameters) -> Taptr:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            model = load_model(parameters.weights, device=parameters.device)
        for warning in caught:
            self.get_logger().warning(str(warning.message))
        height, width = model.config.input_size
        self.get_logger().info(f"weights '{parameters.weights}' on {model.device}, network input {width}x{height}")
        return model


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C or SIGTERM. Returns the exit status: 0 after these, 1 if it cannot start or fails."""
    # A queue of this kind may be put into from a signal handler; an Event may not, two signals in a row can lock it.
    ended: SimpleQueue[None] = SimpleQueue()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: ended.put(None))
    try:
        # Own handlers: rclpy's would shut the context down under the worker, which may be about to publish.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # arguments of --ros-args that ROS cannot read
        print(f"{NAME}: cannot start: {error}", file=sys.stderr)
        return 1
    try:
        return _run(ended)
    except (ParameterError, CheckpointError, ValueError) as error:
        get_logger(NAME).fatal(f"cannot start: {error}")
    except Exception:
        get_logger(NAME).fatal(f"failed: {traceback.format_exc()}")
    finally:
        rclpy.utilities.try_shutdown()
        _ignore_signals()
    return 1


def _ignore_signals() -> None:
    """A second Ctrl-C, as ros2 launch sends, must not kill the process, and its exit status, while Python ends."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _run(ended: SimpleQueue[None]) -> int:
    node = TrackerNode()
    executor = MultiThreadedExecutor(_THREADS)
    executor.add_node(node)
    failures: list[str] = []
    thread = threading.Thread(target=_spin, args=(executor, failures, ended), name="taptr executor", daemon=True)
    thread.start()
    ended.get()
    node.stop()
    executor.shutdown(timeout_sec=5.0)
    thread.join(5.0)
    node.destroy_node()
    for failure in failures:
        get_logger(NAME).fatal(f"failed: {failure}")
    return 1 if failures else 0


def _spin(executor: MultiThreadedExecutor, failures: list[str], ended: SimpleQueue[None]) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception:
        failures.append(traceback.format_exc())
    finally:
        ended.put(None)


if __name__ == "__main__":
    sys.exit(main())
