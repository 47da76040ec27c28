"""The node ``taptr``: camera images in, point tracks out. Run: ``python -m taptrv2_ros.node``, or ros2 launch."""

from __future__ import annotations

import sys
import threading
import traceback
import warnings

import rclpy
import rclpy.utilities
import torch
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from taptrv2_core import CheckpointError, Taptr, load_model
from taptrv2_core.allocator import keep_freed_memory
from taptrv2_ros.camera import Camera
from taptrv2_ros.parameters import ParameterError, Parameters, declare
from taptrv2_ros.shutdown import Shutdown

NAME = "taptr"
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
        if parameters.threads:
            torch.set_num_threads(parameters.threads)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            model = load_model(parameters.weights, device=parameters.device, dtype=parameters.dtype)
        for warning in caught:
            self.get_logger().warning(str(warning.message))
        height, width = model.config.input_size
        where = f"{model.device} in {model.dtype}".replace("torch.", "")
        self.get_logger().info(f"weights '{parameters.weights}' on {where}, network input {width}x{height}")
        return model


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C or SIGTERM. Returns the exit status: 0 after these, 1 if it cannot start or fails."""
    shutdown = Shutdown()
    keep_freed_memory()
    try:
        # Own handlers: rclpy's would shut the context down under the worker, which may be about to publish.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # arguments of --ros-args that ROS cannot read
        print(f"{NAME}: cannot start: {error}", file=sys.stderr)
        return 1
    try:
        return _run(shutdown)
    except (ParameterError, CheckpointError, ValueError) as error:
        get_logger(NAME).fatal(f"cannot start: {error}")
    except Exception:
        get_logger(NAME).fatal(f"failed: {traceback.format_exc()}")
    finally:
        rclpy.utilities.try_shutdown()
        shutdown.ignore_signals()
    return 1


def _run(shutdown: Shutdown) -> int:
    node = TrackerNode()
    executor = MultiThreadedExecutor(_THREADS)
    executor.add_node(node)
    failures: list[str] = []
    thread = threading.Thread(target=_spin, args=(executor, failures, shutdown), name="taptr executor", daemon=True)
    thread.start()
    shutdown.wait()
    node.stop()
    executor.shutdown(timeout_sec=5.0)
    thread.join(5.0)
    node.destroy_node()
    for failure in failures:
        get_logger(NAME).fatal(f"failed: {failure}")
    return 1 if failures else 0


def _spin(executor: MultiThreadedExecutor, failures: list[str], shutdown: Shutdown) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception:
        failures.append(traceback.format_exc())
    finally:
        shutdown.request()


if __name__ == "__main__":
    sys.exit(main())
