"""The work of a step recorded as CUDA graphs, so that a GPU does not wait for the CPU to start many small kernels.

A graph has fixed shapes, so windows run for a padded number of queries (`SIZES`): another query needs no other graph
until a size is full. Padding rows are queries that begin after every frame: no row that counts attends to them.

`tools/gpu_check.sh` compares it with the same steps without graphs (docs/benchmarks/gpu-h100.md). Where recording
fails, one warning says so and steps go on without. TAPTRV2_CUDA_GRAPHS=0 in the environment turns it off.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

from taptrv2_core.fast.inference import Fast
from taptrv2_core.model import Memory, Taptr
from taptrv2_core.window import EVERY, Frames, LayerOutput, Masks

SIZES = (16, 64, 128, 256, 512, 1024)
"""Padded numbers of queries; more than the last run without a graph."""
NEVER = 2**62
"""The frame in which padding begins."""
WARM_UP = 3
"""Runs before a function is recorded: libraries choose their kernels, caches are filled."""

Result = TypeVar("Result")

_failed = False


def usable(device: torch.device) -> bool:
    """Whether graphs are recorded on this device."""
    return device.type == "cuda" and not _failed and os.environ.get("TAPTRV2_CUDA_GRAPHS") != "0"


class Recorded(Generic[Result]):
    """A function that reads and writes tensors which stay where they are; on a GPU recorded once and then replayed.

    What it returns is overwritten by the next call, and by the next call of any other of the same model: they share
    their memory, so that results are to be copied at once.
    """

    def __init__(self, function: Callable[[], Result], model: Taptr) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        if model.device.type == "cuda":
            self._record(model.device, model.derived)

    def _record(self, device: torch.device, derived: Fast | None) -> None:
        current, aside = torch.cuda.current_stream(device), _aside(device)
        pool = None
        if derived is not None:
            derived.pool = pool = derived.pool or torch.cuda.graph_pool_handle()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._function()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # "thread_local": other threads may use the GPU meanwhile
        with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
            self._result = self._function()
        self._graph = graph

    def __call__(self) -> Result:
        """Run it."""
        if self._graph is None:
            return self._function()
        self._graph.replay()
        return self._result


@lru_cache(maxsize=8)
def _aside(device: torch.device) -> torch.cuda.Stream:
    """Where everything is recorded: cuBLAS takes 32 MiB for every stream that it has worked on."""
    return torch.cuda.Stream(device)


class PaddedWindow:
    """The decoder over a full ring for up to ``size`` queries, from buffers of its own.

    Args:
        model: the network.
        frames: what the decoder reads of the ring; its tensors must stay where they are.
        size: queries with padding.
        newest_only: whether one frame is answered for, else all.
    """

    def __init__(self, model: Taptr, frames: Frames, size: int, newest_only: bool) -> None:
        config, device = model.config, model.device
        self.model, self.frames, self.newest_only = model, frames, newest_only
        rows = (1, config.window, size)
        self.content = torch.zeros(*rows, config.channels, dtype=model.dtype, device=device)
        self.reference = torch.zeros(*rows, 4, dtype=model.position_dtype, device=device)
        self.start = torch.full((1, size), NEVER, device=device)
        self.numbers = torch.zeros(config.window, dtype=torch.int64, device=device)
        self.newest = torch.zeros(1, dtype=torch.int64, device=device)
        self._run = Recorded(self._decode, model)

    def _decode(self) -> LayerOutput:
        masks = Masks.build(self.numbers, self.start)
        wanted = self.newest if self.newest_only else EVERY
        return self.model.decode(self.content, self.reference, self.frames, masks, wanted)[-1]

    def __call__(self, content: Tensor, reference: Tensor, start: Tensor, numbers: Tensor, newest: int) -> LayerOutput:
        """A window of N queries: content (1, R, N, C), reference (1, R, N, 4), start (1, N), frame numbers (R,)."""
        count = start.shape[1]
        for buffer, given in ((self.content, content), (self.reference, reference)):
            buffer[:, :, :count] = given
            buffer[:, :, count:] = 0
        self.start[:, :count] = start
        self.start[:, count:] = NEVER
        self.numbers.copy_(numbers)
        self.newest.fill_(newest)
        answer = self._run()
        parts = (answer.moved, answer.reference, answer.visibility, answer.hidden)
        return LayerOutput(*(part[:, :, :count].clone() for part in parts))


class WindowGraphs:
    """The windows of one stream, recorded for each size that was needed."""

    def __init__(self, model: Taptr) -> None:
        self.model = model
        self._windows: dict[tuple[int, bool], PaddedWindow] = {}
        self._derived: Fast | None = None

    def decode(
        self, content: Tensor, reference: Tensor, frames: Frames, start: Tensor, numbers: Tensor, newest: int, one: bool
    ) -> LayerOutput | None:
        """As `PaddedWindow`, of the newest frame or of all; None where it has to be done without graphs."""
        size = next((size for size in SIZES if size >= start.shape[1]), None)
        full = len(numbers) == self.model.config.window
        if size is None or not full or not usable(self.model.device):
            return None
        if self._derived is not self.model.derived:  # other weights, perhaps elsewhere
            self._windows, self._derived = {}, self.model.derived
        if (size, one) not in self._windows:
            window = _attempt(lambda: PaddedWindow(self.model, frames, size, one))
            if window is None:
                return None
            self._windows[size, one] = window
        return self._windows[size, one](content, reference, start, numbers, newest)


class RecordedEncoding:
    """`Taptr.encode` for one shape of images."""

    def __init__(self, model: Taptr, images: Tensor) -> None:
        self.images = images.clone()
        self._run = Recorded(lambda: model.encode(self.images), model)
        self._kept = model.derived and model.derived.positions  # read by the graph

    def __call__(self, images: Tensor) -> Memory:
        """images (B, 3, H, W) RGB in [0, 1]."""
        self.images.copy_(images)
        memory = self._run()
        return Memory(memory.tokens.clone(), memory.level_shapes)


def encode(model: Taptr, images: Tensor) -> Memory:
    """`Taptr.encode`, by a graph for images of this shape where graphs are used."""
    if model.derived is None or not usable(images.device):
        return model.encode(images)
    encodings = model.derived.encodings
    shape = tuple(images.shape)
    if shape not in encodings:
        encoding = _attempt(lambda: RecordedEncoding(model, images))
        if encoding is None:
            return model.encode(images)
        encodings[shape] = encoding
    return encodings[shape](images)


def _attempt(make: Callable[[], Result]) -> Result | None:
    """Record something; where that fails, say so once and record nothing any more."""
    global _failed
    try:
        return make()
    except RuntimeError as error:
        _failed = True
        reason = str(error).strip().split("\n")[0]
        warnings.warn(
            f"taptrv2_core: no CUDA graph could be recorded ({reason}): steps run without, with the same results but "
            "slower. TAPTRV2_CUDA_GRAPHS=0 leaves out the attempt.",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
