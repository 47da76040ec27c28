"""Between host and GPU without waiting: through pinned memory, uploads on a stream of their own."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a host tensor on the device. On a GPU the host does not wait, and work in progress goes on beside the
    copy; what is started afterwards waits for it."""
    if device.type != "cuda":
        return tensor.to(device)
    current, uploads = torch.cuda.current_stream(device), _uploads(device)
    with torch.cuda.stream(uploads):
        copy = tensor.pin_memory().to(device, non_blocking=True)
    current.wait_stream(uploads)
    copy.record_stream(current)
    return copy


def to_host(tensor: Tensor) -> Tensor:
    """A copy of the tensor in host memory, once it is there: of all that a step gives, the only wait."""
    if not tensor.is_cuda:
        return tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(tensor.device))
    done.synchronize()
    return copy


@lru_cache(maxsize=8)
def _uploads(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
