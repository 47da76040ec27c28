"""What a network that will not change any more is turned into to run faster: fewer operations, same results."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from taptrv2_core.fast.conv import TiledConv
from taptrv2_core.fast.prepared import FusedConv, PackedConv, packs
from taptrv2_core.fast.processor import cpu_has_bfloat16

if TYPE_CHECKING:
    from taptrv2_core.fast.cuda_graphs import RecordedEncoding
    from taptrv2_core.fast.projection import FusedProjection
    from taptrv2_core.refine import Refiner

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Fast:
    """Derived from the weights once; not part of the state dict.

    Attributes:
        backbone: batch norm folded into the convolutions, channels last.
        projection: of the levels, where there is an op for it.
        refiner: in float32 on the CPU, whatever the network runs in and on.
        positions: the newest level shapes, with position code and reference of their tokens.
        encodings: on a GPU, the way from images to memory as it was recorded, by the images' shape.
        pool: the memory that all CUDA graphs of the model share.
    """

    backbone: nn.Module
    projection: FusedProjection | None = None
    refiner: Refiner | None = None
    positions: tuple[Sequence[tuple[int, int]], tuple[Tensor, Tensor]] | None = None
    encodings: dict[tuple[int, ...], RecordedEncoding] = field(default_factory=dict)
    pool: Any = None


def folded(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy for inference in which every batch norm is part of the convolution before it (``bnN`` follows ``convN``,
    and in a ``Sequential`` the next module)."""
    network = copy.deepcopy(network).requires_grad_(False)
    for module in network.modules():
        children = dict(module.named_children())
        if isinstance(module, nn.Sequential):
            pairs = [(name, str(int(name) + 1)) for name in children if name.isdigit()]
        else:
            pairs = [(name, name.replace("conv", "bn")) for name in children if name.startswith("conv")]
        for conv_name, norm_name in pairs:
            conv, norm = children[conv_name], children.get(norm_name)
            if isinstance(conv, nn.Conv2d) and norm is not None and hasattr(norm, "running_var"):
                _fold(conv, norm)
                setattr(module, norm_name, nn.Identity())
        if isinstance(module, nn.ReLU):
            module.inplace = True
    network = network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and packs(child.weight):
                setattr(module, name, (TiledConv if TiledConv.fits(child) else PackedConv)(child))
            elif isinstance(child, nn.Conv2d) and child.weight.is_cuda:
                setattr(module, name, FusedConv(child))
    return network


def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)  # type: ignore[arg-type]


def choose_dtype(dtype: torch.dtype | str, device: torch.device) -> torch.dtype:
    """The type to run in; "auto": float16 on a GPU, bfloat16 on a CPU that multiplies it natively, else float32.

    Raises:
        ValueError: none of "auto", "float32", "bfloat16", "float16" or a floating torch type.
    """
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    if dtype == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else torch.float32
    if dtype not in DTYPES:
        raise ValueError(f"dtype is '{dtype}'; expected 'auto', {', '.join(map(repr, DTYPES))} or a torch type")
    return DTYPES[str(dtype)]
