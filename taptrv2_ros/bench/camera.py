"""The other side of the benchmark, a process of its own: publishes images and receives their tracks.

Prints a JSON line for each image: its index, and time.time_ns() before and after it was published and when its tracks
had come.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import threading
import time
from array import array

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from taptrv2_ros.first_contact import FirstContact
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.srv import ListPoints

PERIOD = 100_000_000  # nanoseconds between the stamps of two images
_WAIT = 10.0


def image_message(index: int, height: int, width: int) -> Image:
    """A texture that moves two pixels an image."""
    noise = np.random.default_rng(5).integers(0, 256, (height // 16, width // 16, 3)).astype(np.uint8)
    texture = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array("B", np.roll(texture, 2 * index, axis=1).tobytes())
    stamp = (index + 1) * PERIOD
    message.header.stamp.sec, message.header.stamp.nanosec = stamp // 10**9, stamp % 10**9
    return message


def main() -> None:
    """Publish images, each when the tracks of the one before have come and a pause has passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--pause", type=float, required=True, help="seconds")
    parser.add_argument("--core", type=int)
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    rclpy.init(args=[])
    node = rclpy.create_node("taptr_bench_camera")
    tracks: queue.Queue[tuple[int, int]] = queue.Queue()

    def on_tracks(message: PointTracks) -> None:
        stamp = message.header.stamp
        tracks.put(((stamp.sec * 10**9 + stamp.nanosec) // PERIOD - 1, time.time_ns()))

    node.create_subscription(PointTracks, "/taptr/tracks", on_tracks, 10)
    node.create_subscription(PointTracks, "/taptr/refined_tracks", lambda _: None, 10)
    publisher = node.create_publisher(Image, "/camera/image_raw", 10)
    contact = FirstContact(node.create_client(ListPoints, "/taptr/list_points"))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    while not (publisher.get_subscription_count() and node.count_publishers("/taptr/tracks") and contact.made()):
        time.sleep(0.05)
    messages = [image_message(index, args.size[1], args.size[0]) for index in range(16)]
    for index in range(args.images):
        message, stamp = messages[index % 16], (index + 1) * PERIOD
        message.header.stamp.sec, message.header.stamp.nanosec = stamp // 10**9, stamp % 10**9
        before = time.time_ns()
        publisher.publish(message)
        after = time.time_ns()
        try:
            found, received = tracks.get(timeout=_WAIT)
        except queue.Empty:
            raise SystemExit(f"no tracks of image {index} within {_WAIT:g} s") from None
        assert found == index, f"tracks of image {found} instead of {index}"
        print(json.dumps({"index": index, "before": before, "after": after, "received": received}), flush=True)
        time.sleep(args.pause)
    executor.shutdown()
    thread.join()
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
