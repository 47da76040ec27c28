"""How a camera is doing, as one level and one sentence that says what to do."""

from __future__ import annotations

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy

from taptrv2_ros.camera import Camera
from taptrv2_ros.monitor import RECENT, Monitor, Period

SILENCE = 2.0  # seconds without an image from which on something is wrong
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
IMAGE_TYPES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}
Verdict = tuple[bytes, str]


def camera_health(camera: Camera, period: Period) -> Verdict:
    """The gravest of what there is to say about a camera."""
    context, monitor, now = camera.context, camera.context.session.monitor, time.monotonic()
    if not context.active:
        return OK, "inactive"
    if not camera.subscribed:
        return OK, "nobody subscribes to results, so no image is received (lazy)"
    arrivals = list(monitor.arrivals)
    silent = now - max([camera.subscribed_since, *arrivals[-1:]])
    if silent > max(SILENCE, 3 * _period(arrivals)):
        transport, reliability = context.parameters.image_transport, context.parameters.image_reliability
        return ERROR, why_no_image(context.node, context.session.topic, transport, reliability, silent)
    if not arrivals:
        return OK, f"waiting for the first image on '{context.session.topic}'"
    points = context.session.num_points
    verdicts = [*_troubles(monitor, period, now, context.session.max_points), (OK, f"tracking {points} points")]
    verdicts += [(WARN, problem) for problem in (part.problem() for part in camera.parts) if problem]
    return max(verdicts, key=lambda verdict: verdict[0])


def _period(arrivals: list[float]) -> float:
    """Seconds from image to image, as most come, so that a stall is not taken for the camera's pace; 0 if unknown."""
    return float(np.median(np.diff(arrivals))) if len(arrivals) > 1 else 0.0


def _troubles(monitor: Monitor, period: Period, now: float, max_points: int) -> list[Verdict]:
    counts, found = period.counts, []
    if monitor.fault:
        found.append((ERROR, f"error in the node, survived: {monitor.fault}"))
    if counts.refused:
        level = WARN if counts.tracked else ERROR
        found.append((level, f"{counts.refused} images refused, the last: {monitor.problem}"))
    if now - monitor.last_shortage < RECENT:
        found.append((ERROR, f"memory ran out: at most {max_points} points from now on"))
    if counts.dark > counts.tracked / 2:
        found.append(
            (WARN, f"{counts.dark} of {counts.tracked} images are nearly black, so that nothing can be tracked")
        )
    if now - monitor.last_reset < RECENT:
        found.append((WARN, f"tracking started anew: {monitor.reset_reason}"))
    if counts.lost > counts.received / 10:
        advice = "raise image_queue or the buffers of the middleware, or set image_reliability to reliable"
        found.append((WARN, f"{counts.lost} images lost on the way, {counts.received} received: {advice}"))
    if counts.dropped > counts.received / 2 and counts.received > 2:
        found.append((WARN, f"slower than the camera: {counts.dropped} of {counts.received} images dropped"))
    return found


def why_no_image(node: Node, topic: str, transport: str, reliability: str, seconds: float) -> str:
    """What keeps images from arriving, as far as the ROS graph shows."""
    expected = IMAGE_TYPES[transport]
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        others = [name for name, types in node.get_topic_names_and_types() if expected in types and name != topic]
        others = [name for name in others if _published_by_others(node, name)]
        hint = f"; images are published on {', '.join(sorted(others)[:5])}" if others else ""
        return f"nobody publishes '{topic}'{hint}"
    matching = [publisher for publisher in publishers if publisher.topic_type == expected]
    if not matching:
        return (
            f"'{topic}' carries {publishers[0].topic_type}, not {expected}: check image_topic, and image_transport, "
            f"which is '{transport}'"
        )
    best_effort = QoSReliabilityPolicy.BEST_EFFORT
    if reliability == "reliable" and all(p.qos_profile.reliability == best_effort for p in matching):
        return f"'{topic}' is published best effort and image_reliability is reliable: set it to best_effort"
    return f"'{topic}' has a publisher, but no image came for {seconds:.0f} s: the camera stalled"


def _published_by_others(node: Node, topic: str) -> bool:
    """The node's own overlay is no camera."""
    own = node.get_name(), node.get_namespace()
    return any((p.node_name, p.node_namespace) != own for p in node.get_publishers_info_by_topic(topic))
