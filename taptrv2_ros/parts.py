"""Which parts every camera has, in the order in which they get a frame."""

from __future__ import annotations

from collections.abc import Sequence

from taptrv2_ros.part import CameraPart
from taptrv2_ros.point_services import PointServices
from taptrv2_ros.status_topic import StatusTopic
from taptrv2_ros.tracks_topics import TracksTopics

PARTS: Sequence[type[CameraPart]] = (TracksTopics, StatusTopic, PointServices)
