"""Starts the node taptr, which configures and activates itself; autostart:=false leaves that to a supervisor.

    ros2 launch taptrv2_ros tracker.launch.py image_topic:=/camera/image_raw

Values come from the config file; an argument given on the command line wins over the file.
"""

from __future__ import annotations

import json
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Node parameters that are launch arguments too; empty leaves them to the config file.
PARAMETERS = {
    "autostart": "true: configures and activates itself; false: a supervisor does",
    "image_topic": "topic of the camera's images",
    "image_transport": "raw or compressed",
    "weights": "shipped name or checkpoint file",
    "device": "auto, cpu, cuda, cuda:1, ...",
    "references": "files of points to look for: one, or a list in brackets",
    "target_points": "points the node keeps on corners by itself",
    "depth_topic": "topic of registered depth images, for points in space",
    "use_sim_time": "true: the clock is that of a simulator or recording (/clock)",
}
TYPES = {"autostart": bool, "use_sim_time": bool, "target_points": int, "references": list[str]}  # of the others: str


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """The node, with those parameters that were given as arguments."""
    config = LaunchConfiguration("config").perform(context)
    if not Path(config).is_file():  # launch_ros would only warn, and start without the user's parameters
        raise RuntimeError(f"config:={config}: no such file")
    given = {name: value_of(name, context) for name in PARAMETERS if LaunchConfiguration(name).perform(context)}
    return [
        LifecycleNode(
            package="taptrv2_ros",
            executable="tracker_node",
            name="taptr",
            namespace=LaunchConfiguration("namespace"),
            parameters=[config, given],
            arguments=["--ros-args", "--log-level", [logger_of(context), ":=", LaunchConfiguration("log_level")]],
            output="screen",
            emulate_tty=True,
        )
    ]


def value_of(name: str, context: LaunchContext) -> ParameterValue:
    """An argument as a parameter; raises RuntimeError that names it if it has another type."""
    text = LaunchConfiguration(name).perform(context)
    if TYPES.get(name) == list[str] and not text.startswith("["):
        context.launch_configurations[name] = json.dumps([text])  # one file needs no brackets
    value = ParameterValue(LaunchConfiguration(name), value_type=TYPES.get(name, str))
    try:
        value.evaluate(context)
    except ValueError as error:
        raise RuntimeError(f"{name}:={text}: {error}") from None
    return value


def logger_of(context: LaunchContext) -> str:
    """Name of the node's logger: its full name with dots, which follows a namespace that an including file pushed."""
    namespace = LaunchConfiguration("namespace").perform(context)
    if not namespace.startswith("/"):
        namespace = f"{context.launch_configurations.get('ros_namespace', '')}/{namespace}"
    return ".".join([*filter(None, namespace.split("/")), "taptr"])


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the node."""
    config = PathJoinSubstitution([FindPackageShare("taptrv2_ros"), "config", "tracker.yaml"])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value="", description=f"{text}; empty: as in the config file")
                for name, text in PARAMETERS.items()
            ),
            DeclareLaunchArgument("config", default_value=config, description="YAML file of parameters"),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of node and topics"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            OpaqueFunction(function=start_node),
        ]
    )
