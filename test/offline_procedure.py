"""The published sliding-window procedure, written out over whole-video arrays.

Independent of the engine it checks: every frame's state is kept, every query exists from the start, the last window is
moved back, and only the network's own pieces are called.
"""

from __future__ import annotations

import torch
from torch import Tensor

from taptrv2_core.geometry import inverse_sigmoid
from taptrv2_core.model import Memory, Taptr
from taptrv2_core.window import Frames, Masks


def windows(frames: int, window: int = 8) -> list[range]:
    """Frames of each window; the last is moved back to end at the last frame."""
    if frames <= window:
        return [range(frames)]
    starts = list(range(0, frames - window + 1, window // 2))
    if starts[-1] + window < frames:
        starts.append(frames - window)
    return [range(s, s + window) for s in starts]


@torch.inference_mode()
def track(model: Taptr, video: Tensor, start: Tensor, position: Tensor, g: int) -> tuple[Tensor, Tensor]:
    """Reference logits (T, N, 4) and visibility logits (T, N, 3) of queries at frames ``start``, (N, 2) in [0, 1]."""
    frames, count = len(video), len(start)
    memories = [model.encode(image[None]) for image in video]
    shapes = memories[0].level_shapes
    tokens = torch.cat([m.tokens for m in memories])
    initial = torch.stack(
        [
            model.initial_content(Memory(tokens[s : s + 1], shapes), p.view(1, 1, 2))[0, 0]
            for s, p in zip(start, position, strict=False)
        ]
    )
    content = initial.repeat(frames, 1, 1)
    reference = inverse_sigmoid(torch.cat((position, torch.full_like(position, 0.5)), -1)).repeat(frames, 1, 1)
    visibility = position.new_tensor([0.0, 1.0, 0.0]).expand(frames, count, 3).clone()
    all_windows = windows(frames)
    for k, window in enumerate(all_windows):
        numbers = torch.tensor(list(window))
        updated = numbers[:, None] > start
        if not updated.any():
            continue
        key_values = [kv[numbers] for kv in model.project(Memory(tokens, shapes))]
        held = Frames(shapes, key_values, torch.arange(len(window)))
        masks = Masks.build(numbers, start[None])
        out = model.decode(content[None, numbers], reference[None, numbers], held, masks)[-1]
        entry = content[numbers].clone()
        for i, frame in enumerate(window):
            u = updated[i]
            reference[frame, u] = out.reference[0, i, u]
            visibility[frame, u] = out.visibility[0, i, u]
            content[frame, u] += model.content_update(initial, entry[i], out.hidden[0, i])[u]
        if k + 1 < len(all_windows):
            reference[window[-1] + 1 :] = reference[window[-1]]
            visibility[window[-1] + 1 :] = visibility[window[-1]]
            if k % g == 0:
                content[window[-1] + 1 :] = content[window[-1]]
    return reference, visibility
