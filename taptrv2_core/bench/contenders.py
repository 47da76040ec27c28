"""Who is timed. Each contender is a name and a way to make ``step(image)``, the work for one frame."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from taptrv2_core.bench.frames import points
from taptrv2_core.checkpoint import load_model
from taptrv2_core.config import CONFIGS
from taptrv2_core.encoded import encode_images
from taptrv2_core.errors import CheckpointError
from taptrv2_core.fast.inference import choose_dtype
from taptrv2_core.model import Taptr
from taptrv2_core.tracker import Tracker

Image = NDArray[np.uint8]
Backend = Literal["fused", "reference"]


@dataclass(frozen=True)
class Contender:
    """Who runs, and how.

    Attributes:
        name: as in the table.
        kind: "lk", or what our network does with the frames of a window: "keep" what was computed when they arrived,
            or recompute their "projections" or their "features", as published code does.
        backend: of the ops.
        dtype: of the network.
        prepared: whether batch norm is folded and weights packed.
    """

    name: str
    kind: Literal["lk", "keep", "projections", "features"]
    backend: Backend = "reference"
    dtype: str = "float32"
    prepared: bool = True


def contenders(device: torch.device, fused: bool) -> dict[str, Contender]:
    """All that can run on the device, by short name; ``fused``: whether the fused ops are there."""
    plain = "plain PyTorch, window's "
    half = str(choose_dtype("auto", device)).removeprefix("torch.")
    found = {
        "lk": Contender("OpenCV LK, forward and back", "lk"),
        "plain": Contender(plain + "features recomputed", "features", prepared=False),
        "plain-kv": Contender(plain + "keys and values recomputed", "projections", prepared=False),
        "reference": Contender("taptr, ops in plain PyTorch", "keep"),
    }
    if fused:
        found["fused"] = Contender("taptr", "keep", "fused")
        if half != "float32":
            found["half"] = Contender("taptr", "keep", "fused", half)
    return found


class Recomputing(Tracker):
    """A tracker that keeps nothing: features of its frames, or at least keys and values, are made anew each frame."""

    def __init__(self, model: Taptr, max_points: int, features: bool) -> None:
        super().__init__(model, max_points)
        self.features = features
        self.active = False
        self._images: dict[int, Image] = {}

    @torch.inference_mode()
    def take(self, image: Any, stamp: int | None = None) -> None:
        """As of the tracker."""
        super().take(image, stamp)
        engine = self._engine
        self._images[engine.frame] = image
        self._images.pop(engine.held[0] - 1, None)
        for frame in engine.held[:-1] if self.active else ():
            again = (
                encode_images(self.model, [self._images[frame]])[0].memory if self.features else engine.memory(frame)
            )
            engine.replace_memory(frame, again)


class LucasKanade:
    """OpenCV's pyramidal LK with its forward-backward check, from frame to frame."""

    def __init__(self, xy: NDArray[np.float64]) -> None:
        from taptrv2_core.evaluation.baselines import LucasKanade as Baseline
        from taptrv2_core.evaluation.baselines import grey_image

        self._grey, self._lk = grey_image, Baseline()
        self._xy = xy.astype(np.float32)
        self._previous: Image | None = None

    def step(self, image: Image) -> Any:
        """The points in this frame, and whether the check passed."""
        grey = self._grey(image)
        if self._previous is None:
            self._previous = grey
        result = self._lk.follow(self._previous, grey, self._xy)
        self._previous, self._xy = grey, result[0]
        return result


def network(weights: str, device: torch.device, dtype: str, input_size: tuple[int, int] | None) -> Taptr:
    """Weights by name or file; a network whose weights are not shipped has random ones, of the same speed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # untrained weights: said in the report
            return load_model(weights, device, input_size, dtype)
    except CheckpointError:
        if weights not in CONFIGS:
            raise
    config = CONFIGS[weights]
    torch.manual_seed(0)
    model = Taptr(config)
    if input_size is not None:
        from dataclasses import replace

        model.config = replace(config, input_size=input_size)
    return model.to(device).prepare(choose_dtype(dtype, device))


def tracker_of(contender: Contender, model: Taptr, size: tuple[int, int], count: int) -> Tracker:
    """A tracker as the contender runs it, with points to follow."""
    if not contender.prepared:
        model.to(model.dtype)  # which drops what was derived from the weights
    if contender.kind == "keep":
        tracker = Tracker(model, max_points=count)
    else:
        tracker = Recomputing(model, count, contender.kind == "features")
    tracker.add_points(points(count, size))
    return tracker


def stepper(contender: Contender, tracker: Tracker | None, size: tuple[int, int], count: int) -> Callable[[Image], Any]:
    """The work for one frame."""
    return LucasKanade(points(count, size)).step if tracker is None else tracker.step
