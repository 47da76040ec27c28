"""A camera for tests, in a process of its own: reads orders as JSON lines, publishes images, answers each order.

An order: {"count": images, "period": seconds between, "start": index of the first, "size": [height, width],
"fault": ""}. Image i has stamp 1000 + i / 10 seconds and frame_id "camera_i". No images: wait until nobody subscribes.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from typing import Any

import cv2
import numpy as np


def camera_image(index: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) RGB: a smooth random texture that moves by two pixels right and one down an image."""
    noise = np.random.default_rng(5).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    texture = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.roll(texture, (index, 2 * index), axis=(0, 1))


def camera_stamp(index: int) -> tuple[int, int]:
    """Seconds and nanoseconds."""
    return 1000 + index // 10, index % 10 * 100_000_000


def camera_message(index: int, size: tuple[int, int], compressed: bool, fault: str) -> Any:
    """The image as a message; ``fault`` is "", "truncated" (elsewhere every time), "encoding", "empty" or
    "12 bits" (of 16)."""
    from sensor_msgs.msg import CompressedImage, Image

    rgb = camera_image(index, *size)
    if compressed:
        data = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
        message = CompressedImage(format="png")
    else:
        data = rgb.tobytes()
        message = Image(encoding="rgb8", height=size[0], width=size[1], step=3 * size[1])
    if fault == "truncated":
        data = data[: len(data) // 2 - index]
    elif fault == "empty":
        data = b""
    elif fault == "12 bits":
        data = (16 * rgb[..., 1].astype(np.uint16)).tobytes()
        message.encoding, message.step = "mono16", 2 * size[1]
    elif fault == "encoding":
        message.encoding = "hologram"
    message.data = array("B", data)
    message.header.stamp.sec, message.header.stamp.nanosec = camera_stamp(index)
    message.header.frame_id = f"camera_{index}"
    return message


def main(topic: str, kind: str) -> None:
    import rclpy
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy
    from sensor_msgs.msg import CompressedImage, Image

    compressed = kind == "compressed"
    rclpy.init()
    node = rclpy.create_node("test_camera")
    qos = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.RELIABLE)
    publisher = node.create_publisher(CompressedImage if compressed else Image, topic, qos)
    for line in sys.stdin:
        order = json.loads(line)
        while (publisher.get_subscription_count() == 0) == (order["count"] > 0):
            time.sleep(0.02)
        size = order["size"][0], order["size"][1]
        messages = [camera_message(order["start"] + i, size, compressed, order["fault"]) for i in range(order["count"])]
        for message in messages:
            publisher.publish(message)
            time.sleep(order["period"])
        print("done", flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
