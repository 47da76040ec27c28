"""The node ``taptr``: camera images in, point tracks out. Run: ``python -m taptrv2_ros.node``, or ros2 launch."""

from __future__ import annotations

import sys

from taptrv2_core.startup import needed_packages, settle_environment, share_one_heap


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C or SIGTERM. Returns the exit status: 0 after these, 1 if it cannot start or fails."""
    settle_environment()
    share_one_heap()
    with needed_packages("taptr"):
        from taptrv2_ros.process import run
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
