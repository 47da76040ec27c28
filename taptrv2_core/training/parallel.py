"""One process or several: started by torchrun, processes train together through DistributedDataParallel."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes, prints and measures."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over all processes."""
        if self.count == 1:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all must call it."""
        if self.count == 1:
            return flag
        votes = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(votes)
        return bool(votes.item() > 0)

    def all(self, flag: Tensor) -> Tensor:
        """Whether a flag () is set in all processes, without waiting for it; all must call it."""
        if self.count == 1:
            return flag
        votes = flag.to(torch.int32)
        dist.all_reduce(votes, dist.ReduceOp.MIN)
        return votes > 0

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1:
            dist.destroy_process_group()


def join_workers(device: str) -> Workers:
    """This process's place, from torchrun's environment; alone without it.

    Args:
        device: "auto", "cpu" or "cuda"; with several GPUs each process takes the one of its local rank.

    Raises:
        ValueError: "cuda" without a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {device!r} is not known: use 'auto', 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': PyTorch finds no GPU here; use --device cpu")
    cuda = device != "cpu" and torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    if count > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
    return Workers(int(os.environ.get("RANK", "0")), count, place)
