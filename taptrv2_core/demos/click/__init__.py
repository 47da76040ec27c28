"""Demo: a page in the browser, on this machine only, that shows images; clicks are points, and tracks follow them."""

from __future__ import annotations

from taptrv2_core.demos.click.collect import collect_clicks
from taptrv2_core.demos.click.server import PORT, serve
from taptrv2_core.demos.click.stage import ClickError, Scene, Showing, ShownPoint, Stage
from taptrv2_core.demos.click.video import VideoStage

__all__ = ["PORT", "ClickError", "Scene", "Showing", "ShownPoint", "Stage", "VideoStage", "collect_clicks", "serve"]
