"""What `ros2 launch taptrv2_ros tracker.launch.py NAME:=VALUE ...` does, without the command ros2."""

from __future__ import annotations

import sys
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    file = Path(get_package_share_directory("taptrv2_ros"), "launch", "tracker.launch.py")
    given = [tuple(argument.split(":=", 1)) for argument in arguments]
    source = PythonLaunchDescriptionSource(str(file))
    service = LaunchService(argv=arguments)
    service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)]))
    return service.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
