"""The ROS 2 node. Converts, calls ``taptrv2_core``, publishes."""

import pkgutil

# The generated messages (taptrv2_ros.msg, taptrv2_ros.srv) are in the installed package of this name. Python started in
# the source folder finds this one first, and through this line those as well.
__path__ = pkgutil.extend_path(__path__, __name__)
