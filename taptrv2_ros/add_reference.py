"""Sends a reference file to a running node, which looks for its points from now on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rclpy.utilities import remove_ros_args

from taptrv2_core.reference_files import Reference, read_reference
from taptrv2_ros.client import (
    PATIENCE,
    ClientError,
    Services,
    add_tracker_options,
    client_node,
    exit_status,
    tracker_name,
)
from taptrv2_ros.conversions import rgb_message
from taptrv2_ros.messages import float_array
from taptrv2_ros.srv import AddReference, ListPoints


def main(args: Sequence[str] | None = None) -> int:
    """Exit status: see `client.exit_status`."""
    words = remove_ros_args(sys.argv if args is None else ["add_reference", *args])
    parser = argparse.ArgumentParser(
        prog="add_reference",
        description="Let the running node look for the points of a reference file, from now on until they are removed.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.yaml", help="as teach has written it, or by hand")
    parser.add_argument("--group", help="a name for the points (default: that of the file)")
    add_tracker_options(parser)
    options = parser.parse_args(words[1:])

    def send() -> None:
        reference = read_reference(options.file)
        group = reference.group if options.group is None else options.group
        tracker = tracker_name(options.node, options.camera)
        ids = ask(reference, group, tracker, args)
        print(f"{tracker} looks for {len(ids)} points" + (f" of the group '{group}'" if group else ""))
        print("ids:", *ids)

    return exit_status("add_reference", send)


def ask(reference: Reference, group: str, tracker: str, args: Sequence[str] | None) -> list[int]:
    """Ids of its points; raises ClientError where the node refuses."""
    x, y = map(float_array, reference.xy.T)
    request = AddReference.Request(image=rgb_message(reference.image), x=x, y=y, group=group)
    with client_node("taptr_add_reference", args) as node:
        kinds = {AddReference: f"{tracker}/add_reference", ListPoints: f"{tracker}/list_points"}
        answer = Services(node, kinds, ListPoints).call(AddReference, request, PATIENCE)
    if not answer.success:
        raise ClientError(answer.message)
    return list(answer.ids)


if __name__ == "__main__":
    sys.exit(main())
