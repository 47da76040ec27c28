"""``python -m taptrv2_ros.demo`` plays a recording into the live node over DDS and draws what comes back."""
