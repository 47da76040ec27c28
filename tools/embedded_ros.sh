# Sourced: lets programs of the virtual environment find the shared libraries of its ROS wheels.
# Left alone, each Python would start itself a second time to set LD_LIBRARY_PATH, and lose a workspace's entries.
# shellcheck shell=bash disable=SC2154
ros_libraries=$venv/lib
for folder in "$venv"/lib/python3.*/site-packages/ros_*.libs; do
  ros_libraries+=:$folder
done
export LD_LIBRARY_PATH=$ros_libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
export AMENT_PREFIX_PATH=$venv
unset ros_libraries folder
