"""The demo's own recording: a generated clip with exact truth, written as a ROS 2 bag like any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptrv2_core.demos.clip import CLIP, RATE, SEED, there_and_back
from taptrv2_core.extras import optional
from taptrv2_core.synthetic import ClipConfig
from taptrv2_ros.demo.score import Truth

TOPIC = "/camera/image_raw"
_START = 1_700_000_000_000_000_000  # nanoseconds; any time will do, but 0 means "no stamp"


def make_clip(folder: Path, config: ClipConfig = CLIP, seed: int = SEED) -> tuple[Path, Truth]:
    """The bag (a folder) and the truth of the clip; made if they are not there yet from the same settings.

    The generated images are played forwards and then backwards, so that every point comes back to where it was.
    """
    bag, truth_file, recipe = folder / "clip", folder / "truth.npz", f"{config} seed {seed} rate {RATE}"
    truth = _load(truth_file, recipe) if bag.is_dir() else None
    if truth is not None:
        return bag, truth
    clip = there_and_back(config, seed)
    truth = Truth(clip.query_frame, clip.xy, clip.visible)
    shutil.rmtree(bag, ignore_errors=True)
    write_bag(bag, clip.video)
    # The layout that `taptr evaluate-bag --ground-truth` reads, and what the demo itself needs beside.
    points, visible = truth.xy.swapaxes(0, 1), truth.visible.T
    np.savez_compressed(truth_file, recipe=recipe, points=points, visible=visible, query_frame=truth.query_frame)
    return bag, truth


def write_bag(folder: Path, video: NDArray[np.uint8]) -> None:
    """Write (T, H, W, 3) RGB as a ROS 2 bag in MCAP, one topic of ``sensor_msgs/Image``."""
    rosbag2 = optional("rosbags.rosbag2", "rosbags", "writing the demo's bag")
    typesys = optional("rosbags.typesys", "rosbags", "writing the demo's bag")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    with rosbag2.Writer(folder, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=store)
        for index, image in enumerate(video):
            stamp = _START + index * 1_000_000_000 // RATE
            message = _image(store.types, image, stamp)
            writer.write(connection, stamp, store.serialize_cdr(message, message.__msgtype__))


def _image(types: dict[str, Any], image: NDArray[np.uint8], stamp: int) -> Any:
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000)
    return types["sensor_msgs/msg/Image"](
        header=types["std_msgs/msg/Header"](stamp=time, frame_id="camera"),
        height=image.shape[0],
        width=image.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=3 * image.shape[1],
        data=image.reshape(-1),
    )


def _load(file: Path, recipe: str) -> Truth | None:
    """A truth written earlier, if it is whole and of the same recipe."""
    try:
        with np.load(file) as content:
            if str(content["recipe"]) != recipe:
                return None
            return Truth(content["query_frame"], content["points"].swapaxes(0, 1), content["visible"].T)
    except (OSError, KeyError, ValueError):
        return None
