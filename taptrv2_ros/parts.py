"""Which parts every camera has, in the order in which they get a frame."""

from __future__ import annotations

from collections.abc import Sequence

from taptrv2_ros.auto_seeding import AutoSeeding
from taptrv2_ros.click_topics import ClickTopics
from taptrv2_ros.overlay_topics import OverlayTopics
from taptrv2_ros.part import CameraPart
from taptrv2_ros.point_services import PointServices
from taptrv2_ros.spatial_topics import SpatialTopics
from taptrv2_ros.status_topic import StatusTopic
from taptrv2_ros.tracks_topics import TracksTopics

# What others wait for comes first; seeding changes points only after their tracks are out.
PARTS: Sequence[type[CameraPart]] = (
    TracksTopics,
    SpatialTopics,
    StatusTopic,
    OverlayTopics,
    PointServices,
    ClickTopics,
    AutoSeeding,
)
