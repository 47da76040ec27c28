"""The recording and its points for the Rerun viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from taptrv2_core.drawing import point_colours
from taptrv2_core.encodings import CompressedImage, encode_jpeg
from taptrv2_core.extras import optional
from taptrv2_core.tracking_run.following import TrackedFrame
from taptrv2_core.tracking_run.outputs.output import JPEG_QUALITY, Labels

_BUFFERED = 1 << 23  # bytes the SDK may still hold


class RerunRecording:
    """``tracks.rrd``: images under ``camera``, visible and hidden points below, over frame numbers and time."""

    label = "Rerun"

    def __init__(self, path: Path, labels: Labels) -> None:
        self.path = path
        self._labels = labels
        self._rerun: Any = optional("rerun", "rerun-sdk", "writing a Rerun recording")
        path.open("wb").close()  # says what is wrong with the place, which the SDK does not
        self._recording = self._rerun.RecordingStream("taptr")
        self._recording.save(path)

    def write(self, frame: TrackedFrame) -> None:
        """See `Output`."""
        tracks, record = frame.tracks, self._recording
        record.set_time("frame", sequence=frame.number)
        record.set_time("stamp", timestamp=np.datetime64(frame.source.stamp, "ns"))
        record.log("camera", self._picture(frame))
        hidden = tracks.found & ~tracks.visible
        for name, chosen, radius in (("visible", tracks.visible, 4.0), ("hidden", hidden, 2.0)):
            ids = tracks.ids[chosen]
            names = [self._labels[i].name or str(i) for i in ids.tolist()]
            points = self._rerun.Points2D(
                tracks.xy[chosen] + 0.5,  # Rerun's pixels begin at their corner, ours at their centre
                radii=radius, colors=point_colours(ids), labels=names, show_labels=False,
            )  # fmt: skip
            record.log(f"camera/{name}", points)

    def close(self) -> None:
        """See `Output`."""
        self._recording.flush()
        self._recording.disconnect()

    def bytes_to_close(self) -> int:
        """See `Output`."""
        return _BUFFERED

    def _picture(self, frame: TrackedFrame) -> Any:
        """The file the camera made, or a JPEG of what it did not compress."""
        recorded = frame.source.image
        if isinstance(recorded, CompressedImage):
            kind = "image/png" if recorded.data[:4].tobytes() == b"\x89PNG" else "image/jpeg"
            return self._rerun.EncodedImage(contents=recorded.data.tobytes(), media_type=kind)
        return self._rerun.EncodedImage(contents=encode_jpeg(frame.image, JPEG_QUALITY), media_type="image/jpeg")
