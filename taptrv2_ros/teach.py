"""Writes what a running node tracks now as a reference file, so that it is found another day."""

from __future__ import annotations

import argparse
import queue
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core.encodings import ConversionError, RgbImage
from taptrv2_core.reference_files import SUFFIXES, write_reference
from taptrv2_ros.client import (
    PATIENCE,
    ClientError,
    Services,
    add_tracker_options,
    client_node,
    exit_status,
    tracker_name,
)
from taptrv2_ros.conversions import to_rgb
from taptrv2_ros.groups import AUTOMATIC
from taptrv2_ros.live_images import LiveImages
from taptrv2_ros.messages import nanoseconds
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.parameters import Parameters


@dataclass(frozen=True)
class Taught:
    """A reference: (h, w, 3) RGB, (N, 2) x, y in pixels of it, the points' group, and how many others are hidden."""

    picture: RgbImage
    xy: NDArray[np.float64]
    group: str
    hidden: int


def main(args: Sequence[str] | None = None) -> int:
    """Exit status: see `client.exit_status`."""
    words = remove_ros_args(sys.argv if args is None else ["teach", *args])
    options = _parser().parse_args(words[1:])

    def teach() -> None:
        _check_target(options.file, options.force)
        image, tracks = _newest(options, args)
        try:
            rgb = to_rgb(image)
        except ConversionError as error:
            raise ClientError(f"the camera's image cannot be used: {error}") from error
        taught = choose(rgb, tracks, options.group, options.ids, options.margin)
        write_reference(options.file, taught.picture, taught.xy, taught.group)
        print(_said(options.file, taught))

    return exit_status("teach", teach)


def choose(rgb: RgbImage, tracks: PointTracks, group: str, ids: Collection[int], margin: int | None) -> Taught:
    """The points in an image that are visible: of a group, with those ids, or all but those the node added by itself;
    with so many pixels around them, None: the whole image. Raises ClientError: there are none."""
    names = np.array(tracks.group_names)[np.asarray(tracks.group, dtype=np.int64)]
    asked = np.isin(tracks.ids, list(ids)) if ids else names == group if group else names != AUTOMATIC
    unknown = sorted(set(ids) - set(tracks.ids))
    if unknown:
        raise ClientError(f"no points with ids {', '.join(map(str, unknown))} are tracked")
    if not asked.any():
        there = ", ".join(f"'{name}'" for name in sorted({*names.tolist()} - {""}))
        if group:
            raise ClientError(f"no tracked point is in a group '{group}'; groups are: {there or 'none'}")
        raise ClientError("no points are tracked: add some first (click_page, add_points, add_region)")
    xy = np.stack((tracks.x, tracks.y), axis=-1).astype(np.float64)
    size = np.array([rgb.shape[1], rgb.shape[0]])
    inside = ((xy >= -0.5) & (xy <= size - 0.5)).all(axis=1)
    chosen = asked & inside & np.asarray(tracks.visible, dtype=bool)
    if not chosen.any():
        raise ClientError(f"none of the {asked.sum()} points is visible in the newest image: teach where they are")
    low, high = np.zeros(2, dtype=int), size
    if margin is not None:
        low = np.maximum(np.floor(xy[chosen].min(axis=0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(xy[chosen].max(axis=0) + margin) + 1, size).astype(int)
    of_all = set(names[chosen].tolist()) - {AUTOMATIC}  # a name that clients cannot give
    own = of_all.pop() if len(of_all) == 1 and not (names[chosen] == AUTOMATIC).any() else ""
    return Taught(rgb[low[1] : high[1], low[0] : high[0]], xy[chosen] - low, own, int((asked & ~chosen).sum()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="teach",
        description="Write points that the running node tracks, and the camera's newest image, as a reference file: "
        "FILE.yaml and FILE.png. Those that are hidden are left out.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.yaml")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--group", default="", help="the points of this group (default: all that clients added)")
    which.add_argument("--ids", type=int, nargs="+", default=[], metavar="ID", help="these points")
    parser.add_argument(
        "--margin", type=_pixels, metavar="PIXELS",
        help="cut the picture out around the points, with so many pixels more; less is found then (default: all of it)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    parser.add_argument("--topic", help="of the images (default: as the node's parameters have it)")
    add_tracker_options(parser)
    return parser


def _pixels(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def _check_target(file: Path, force: bool) -> None:
    """Before the node is asked. Raises ClientError."""
    if file.suffix.lower() not in SUFFIXES:
        raise ClientError(f"{file}: a reference is a .yaml file")
    if not file.parent.is_dir():
        raise ClientError(f"{file.parent} is no folder")
    there = [path for path in (file, file.with_suffix(".png")) if path.exists()]
    if there and not force:
        raise ClientError(f"{there[0]} is there already; --force replaces it")


def _newest(options: argparse.Namespace, args: Sequence[str] | None) -> tuple[Image | CompressedImage, PointTracks]:
    """The next image that the node has tracked, and where its points are. Raises ClientError."""
    tracker = tracker_name(options.node, options.camera)
    pairs: queue.Queue[tuple[Image | CompressedImage, PointTracks]] = queue.Queue()
    with client_node("taptr_teach", args) as node:
        topic = node.resolve_topic_name(options.topic) if options.topic else _topic(node, options.node, options.camera)
        images = LiveImages(node, topic, tracker)
        images.on_pair = lambda image, tracks: pairs.put((image, tracks))
        try:
            image, tracks = pairs.get(timeout=PATIENCE)
        except queue.Empty:
            raise ClientError(_why_nothing(images.received, topic, tracker)) from None
    if not nanoseconds(image.header.stamp):
        raise ClientError(f"images on {topic} carry no stamp, so it is not known which one the points are in")
    return image, tracks


def _topic(node: Node, tracker: str, camera: str) -> str:
    """Of the camera's images, by the tracker's parameters. Raises ClientError."""
    name = tracker_name(tracker, "")
    own = f"{camera}.image_topic" if camera else "image_topic"
    services = Services(node, {GetParameters: f"{name}/get_parameters"}, GetParameters)

    def ask(*names: str) -> list[Any]:
        values = services.call(GetParameters, GetParameters.Request(names=names), PATIENCE).values
        return [parameter_value_to_python(value) for value in values]

    (cameras,) = ask("cameras") or [[]]
    if camera not in (cameras or [""]):
        there = ", ".join(filter(None, cameras))
        has = f"has the cameras {there}: say which with --camera" if there else "has no named cameras"
        raise ClientError(f"{name} {has}")
    topic, transport = ask(own, "image_transport")
    wire = Parameters(image_topic=topic, image_transport=transport).wire_topic
    return wire if wire.startswith("/") else f"{name.rpartition('/')[0]}/{wire}"


def _why_nothing(received: int, topic: str, tracker: str) -> str:
    what = f"{received} images on {topic}, but no tracks of them" if received else f"no image on {topic}"
    return (
        f"{what} in {PATIENCE:g} s: is it published, does {tracker} track it, and is the node active? "
        f"(ros2 topic hz {topic}; ros2 topic hz {tracker}/tracks; of a topic that is remapped: --topic)"
    )


def _said(file: Path, taught: Taught) -> str:
    height, width = taught.picture.shape[:2]
    group = f" of the group '{taught.group}'" if taught.group else ""
    left_out = f"; {taught.hidden} that are hidden are left out" if taught.hidden else ""
    return f"{file}: {len(taught.xy)} points{group}, a picture of {width} x {height} pixels{left_out}"


if __name__ == "__main__":
    sys.exit(main())
