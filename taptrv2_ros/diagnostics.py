"""Publishes /diagnostics once a second: how the node and each of its cameras are doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

from taptrv2_ros.camera import Camera
from taptrv2_ros.health import ERROR, OK, camera_health
from taptrv2_ros.steady_clock import steady_clock

if TYPE_CHECKING:
    from taptrv2_ros.lifecycle import TrackerNode

_PERIOD = 1.0
_MIB = 2**20


class Diagnostics:
    """Lives as long as the node, so that a node that could not be configured says why."""

    def __init__(self, node: TrackerNode) -> None:
        self._node = node
        self._name = node.get_fully_qualified_name().lstrip("/")  # several robots' nodes may be called the same
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = node.create_timer(
            _PERIOD, self._report, callback_group=MutuallyExclusiveCallbackGroup(), clock=steady_clock()
        )

    def _report(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        tracking = self._node.tracking
        cameras = tracking.cameras if tracking is not None else []
        message.status = [self._of_node(), *(self._of_camera(camera) for camera in cameras)]
        self._publisher.publish(message)

    def _of_node(self) -> DiagnosticStatus:
        node, model = self._node, self._node.model
        values: dict[str, Any] = {"state": node.state, "weights": node.parameters_now.shared.weights}
        if model is not None:
            values |= {"device": model.device, "number format": str(model.dtype).removeprefix("torch.")}
            values |= gpu_memory(model.device)
        level, text = (ERROR, node.problem) if node.problem else (OK, node.state)
        return _status(f"{self._name}: node", level, text, str(values.get("device", "")), values)

    def _of_camera(self, camera: Camera) -> DiagnosticStatus:
        session, monitor = camera.context.session, camera.context.session.monitor
        period = monitor.period()
        level, text = camera_health(camera, period)
        seconds = max(period.seconds, 1e-3)
        values = {
            "image rate (1/s)": f"{period.counts.received / seconds:.1f}",
            "tracked rate (1/s)": f"{period.counts.tracked / seconds:.1f}",
            "latency mean (ms)": _milliseconds(period.latency, np.mean),
            "latency max (ms)": _milliseconds(period.latency, np.max),
            "tracking mean (ms)": _milliseconds(period.step, np.mean),
            "points": session.num_points,
            "max points": session.max_points,
            "reset reason": monitor.reset_reason,
        }
        values |= {f"{name.replace('_', ' ')}": count for name, count in vars(monitor.counters).items()}
        name = f"{self._name}: camera {camera.context.name}".rstrip()
        return _status(name, level, text, session.topic, values)


def _status(name: str, level: bytes, text: str, hardware: str, values: Mapping[str, object]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=text, hardware_id=hardware, values=pairs)


def _milliseconds(seconds: NDArray[np.float64], what: Any) -> str:
    return f"{1e3 * float(what(seconds)):.1f}" if len(seconds) else "-"


def gpu_memory(device: torch.device) -> dict[str, str]:
    """What the node keeps from others, CUDA graphs' memory included, and what there is; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:  # the device has failed: that is the time for diagnostics
        return {"GPU memory": f"unknown: {error}"}
    used = torch.cuda.memory_reserved(device)
    return {
        "GPU memory of the node (MiB)": f"{used / _MIB:.0f}",
        "GPU memory free (MiB)": f"{free / _MIB:.0f}",
        "GPU memory total (MiB)": f"{total / _MIB:.0f}",
    }
