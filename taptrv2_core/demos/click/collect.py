"""Points clicked in a recording, for a run that tracks them afterwards."""

from __future__ import annotations

from pathlib import Path

from taptrv2_core.demos.click.server import PORT, serve
from taptrv2_core.demos.click.video import VideoStage
from taptrv2_core.demos.source import open_images
from taptrv2_core.query_files import Query


def collect_clicks(path: Path, topic: str | None = None, port: int = PORT) -> list[Query]:
    """Show a recording in the browser until the page says "done"; the points clicked there, in order.

    Args:
        path: as `open_recording` takes it.
        topic: of a bag with several.
        port: on 127.0.0.1; 0: any.

    Raises:
        RecordingError: the recording cannot be read.
        OSError: the port is in use.
        KeyboardInterrupt: Ctrl-C instead of "done".
    """
    with VideoStage(lambda: open_images(path, topic), model=None) as stage:
        if not serve(stage, port):
            raise KeyboardInterrupt
        picks = sorted(stage.picks.items())
    return [Query(pick.x, pick.y, pick.frame, source=f"click {number}") for number, (_, pick) in enumerate(picks, 1)]
