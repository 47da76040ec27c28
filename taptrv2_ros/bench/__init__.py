"""What the node adds to the tracker's own step: ``python -m taptrv2_ros.bench``."""
