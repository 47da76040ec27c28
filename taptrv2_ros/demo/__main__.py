"""``python -m taptrv2_ros.demo [INPUT]``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType


def _arguments(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m taptrv2_ros.demo",
        description="Play a recording into the live node, add points, and draw what it tracks.",
    )
    parser.add_argument(
        "input", nargs="?", type=Path, metavar="INPUT",
        help="a bag (ROS 1, or ROS 2 in SQLite or MCAP; file or folder), a video file, or a folder of images; "
        "without it a generated clip whose true tracks are known",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("demo_output"), help="folder of results (default: %(default)s)"
    )
    parser.add_argument("--points", type=_positive, default=64, help="points to track (default: %(default)s)")
    parser.add_argument("--topic", help="image topic, for bags with several")
    parser.add_argument("--frames", type=_positive, help="play only so many images")
    parser.add_argument("--weights", default="small", help="shipped name or checkpoint file (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=_positive, default=60, help="seconds to wait for the node (default: %(default)s)"
    )
    return parser.parse_args(args)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(args: list[str] | None = None) -> int:
    """Run the demo. Exit status: 0 done, 1 the node failed, 2 the input cannot be played, 130 interrupted."""
    options = _arguments(args)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            import taptrv2_ros.msg  # noqa: F401  # generated: not there before the package is built and sourced
        except ImportError as error:
            print(
                f"error: {error}. Run it as 'make demo' or 'tools/run.sh python -m taptrv2_ros.demo', or source ROS 2 "
                "and the workspace's install/setup.bash first.",
                file=sys.stderr,
            )
            return 1
        from taptrv2_core.errors import MissingPackageError, RecordingError, VideoError
        from taptrv2_ros.demo.errors import DemoError
        from taptrv2_ros.demo.run import Options, run

        try:
            return run(Options(**vars(options)))
        except (DemoError, MissingPackageError, RecordingError, VideoError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2 if isinstance(error, RecordingError) else 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
