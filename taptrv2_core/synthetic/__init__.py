"""Procedural clips with exact point tracks: `ClipGenerator(ClipConfig()).sample(batch)`."""

from __future__ import annotations

from .config import ClipConfig, Clips
from .generator import ClipGenerator

__all__ = ["ClipConfig", "ClipGenerator", "Clips"]
