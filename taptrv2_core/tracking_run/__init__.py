"""Tracking whole recordings into files: what ``taptr track`` does."""

from __future__ import annotations

from taptrv2_core.tracking_run.following import Follower, TrackedFrame
from taptrv2_core.tracking_run.points import PointSource

__all__ = ["Follower", "PointSource", "TrackedFrame"]
