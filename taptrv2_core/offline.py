"""Whole videos through the streaming engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.engine import SlidingWindow
from taptrv2_core.flow import FlowImage
from taptrv2_core.geometry import PixelMap, inverse_sigmoid
from taptrv2_core.model import Taptr
from taptrv2_core.window_result import VISIBLE_CLASS, WindowResult


@dataclass(frozen=True)
class VideoTracks:
    """Tracks of N queries through T frames.

    Attributes:
        xy: (T, N, 2) x, y in pixels.
        visible: (T, N) bool.
        boxes: (T, N, 4) x, y, w, h in [0, 1] as the network keeps them; w and h mean nothing to a user.
        visibility_logits: (T, N, 3); a point is visible where sigmoid of class 1 is above 0.5.

    Frames before a query's own hold its initial values: mask them.
    """

    xy: Tensor
    visible: Tensor
    boxes: Tensor
    visibility_logits: Tensor


def _checked(video: Tensor, query_frame: Tensor, query_xy: Tensor) -> tuple[Tensor, Tensor]:
    if video.ndim != 4 or video.shape[1] != 3 or not video.is_floating_point() or video.shape[0] == 0:
        raise ValueError(
            f"video is {video.dtype} of shape {tuple(video.shape)}; expected float RGB in [0, 1] of shape (T, 3, H, W)"
        )
    frames = torch.as_tensor(query_frame, dtype=torch.int64).reshape(-1).cpu()
    xy = torch.as_tensor(query_xy).to(torch.promote_types(video.dtype, torch.float32)).reshape(-1, 2).cpu()
    if len(frames) != len(xy):
        raise ValueError(f"query_frame has {len(frames)} entries and query_xy {len(xy)}; they must agree")
    if len(frames) and (int(frames.min()) < 0 or int(frames.max()) >= len(video)):
        raise ValueError(f"query_frame must lie in [0, {len(video) - 1}], the frames of the video")
    if not bool(torch.isfinite(xy).all()):
        raise ValueError("query_xy holds NaN or infinite coordinates")
    return frames, xy


@torch.inference_mode()
def track_video(
    model: Taptr,
    video: Tensor,
    query_frame: Tensor,
    query_xy: Tensor,
    takeover_interval: int = 1,
    images: NDArray[Any] | None = None,
) -> VideoTracks:
    """Track points through a whole video, at the video's own size: the published sliding-window procedure.

    The same engine as the stream's: windows at frames 0-7, 4-11, 8-15, ... commit, and a last one ends at the last
    frame. A video of fewer than 8 frames is one shorter window. Networks that begin new frames by optical flow also
    need every frame's own answer, so provisional windows run as in the stream.

    Args:
        model: the network.
        video: (T, 3, H, W) float RGB in [0, 1].
        query_frame: (N,) int, the frame each point is given in.
        query_xy: (N, 2) x, y in pixels of that frame.
        takeover_interval: g, content is taken over by later frames after every g-th window; the published procedure
            uses max(1, T // 24).
        images: (T, H, W, 3) RGB, the frames before they were resized to the video's size: where the network uses
            optical flow, it sees their detail, as the stream's does. None: flow sees the video.

    Raises:
        ValueError: shapes do not agree, a query frame lies outside the video, or a coordinate is not finite.
    """
    starts, xy = _checked(video, query_frame, query_xy)
    size = (int(video.shape[2]), int(video.shape[3]))
    pixels = PixelMap(size, size)
    position = pixels.to_position(xy)
    engine, flow = SlidingWindow(model, takeover_interval), model.config.motion == "flow"
    order: list[int] = []
    references, logits = _initial(position, len(video))
    for t, image in enumerate(video):
        engine.push(image.to(model.device), FlowImage.of(images[t], size) if flow and images is not None else None)
        if flow and not engine.commits:
            engine.run(newest_only=True)  # the next frame begins at this one's answer
        new = (starts == t).nonzero().flatten().tolist()
        if new:
            engine.add(position[new], t)
            order += new
        if engine.commits:
            _store(engine, engine.commit(), order, references, logits)
    if not engine.commits:
        _store(engine, engine.run(), order, references, logits)
    boxes = references.sigmoid()
    visible = logits[..., VISIBLE_CLASS].sigmoid() > 0.5
    return VideoTracks(pixels.to_pixels(boxes[..., :2]), visible, boxes, logits)


def _initial(position: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Reference and visibility logits of every frame before anything is tracked."""
    reference = inverse_sigmoid(torch.cat((position, torch.full_like(position, 0.5)), dim=-1))
    visibility = reference.new_tensor([0.0, 1.0, 0.0]).expand(len(reference), 3)
    return reference.repeat(frames, 1, 1), visibility.repeat(frames, 1, 1)


def _store(
    engine: SlidingWindow, result: WindowResult | None, order: list[int], references: Tensor, logits: Tensor
) -> None:
    """Copy a window's result, in slot order, to its frames and queries in the order they were asked for."""
    if result is None:
        return
    for frame in engine.held:
        slot = frame % engine.slots
        references[frame, order] = result.reference[0, slot].to(references)
        logits[frame, order] = result.visibility[0, slot].to(logits)
