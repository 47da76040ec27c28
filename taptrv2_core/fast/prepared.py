"""Modules that keep what they derived from their weights to run faster, and oneDNN's packed weights.

oneDNN is torch's own library for products and convolutions on CPUs. Given weights in its own layout it skips the
packing of every call, and adds bias and ReLU on the way: about a third faster than `torch.nn.functional.linear` for
the products of a window in bfloat16, and twice as fast in float32 where that would go to MKL on an AMD processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.fast.allocator import is_out_of_memory

Self = TypeVar("Self", bound="Prepared")
ROWS = 512
"""For how many rows a packed weight is best; it works for any number."""


class Prepared(nn.Module):
    """A module that may keep something derived from its weights.

    It is dropped when the module is trained, moved, converted, loaded or copied. It has no gradient.
    """

    derived: Any = None

    def derive(self) -> None:
        """Set ``derived`` from the weights as they are."""
        raise NotImplementedError

    def train(self: Self, mode: bool = True) -> Self:
        """As of every module."""
        if mode:
            self.derived = None
        return super().train(mode)

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.derived = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.derived = None
        super()._load_from_state_dict(*args, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "derived": None}


class Linear(Prepared, nn.Linear):
    """``nn.Linear``, with a ReLU after it if asked for."""

    def derive(self) -> None:
        """Pack the weight."""
        self.derived = PackedLinear.of(self.weight, self.bias)

    def forward(self, input: Tensor, relu: bool = False) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if self.derived is not None:
            return self.derived(input, relu)  # type: ignore[no-any-return]
        if relu and input.is_cuda and not torch.is_grad_enabled() and input.dtype == self.weight.dtype:
            rows = torch._addmm_activation(self.bias, input.flatten(0, -2), self.weight.t())  # type: ignore[attr-defined]
            return rows.unflatten(0, input.shape[:-1])  # type: ignore[no-any-return]
        output = F.linear(input, self.weight, self.bias)
        return F.relu(output) if relu else output


class PackedLinear:
    """A linear layer whose weight is in oneDNN's layout."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self.bias = bias.detach()

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> PackedLinear | None:
        """None where packing is of no use or not possible."""
        return cls(weight, bias) if packs(weight) else None

    def __call__(self, x: Tensor, relu: bool = False) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "relu" if relu else "none", [], "")  # type: ignore[no-any-return]


class PackedConv(nn.Module):
    """A convolution whose weight is in oneDNN's layout for the newest input's size."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.shape = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.weight: Tensor | None = None
        self.size: list[int] = []

    def forward(self, x: Tensor, relu: bool = False, add: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ...), with ``add`` of that shape added to it before a ReLU."""
        if self.weight is None or list(x.shape) != self.size:
            self.size = list(x.shape)
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.conv.weight, *self.shape, self.size)
        after = "relu" if relu else "none"
        run = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            return run(x, self.weight, self.conv.bias, *self.shape, after, [], "")  # type: ignore[no-any-return]
        sum_then: Any = ("add", 1.0, after if relu else None, [], "")
        return run.binary(x, add, self.weight, self.conv.bias, *self.shape, *sum_then)  # type: ignore[no-any-return]


class FusedConv(nn.Module):
    """A convolution with its bias, a sum and a ReLU as one kernel of cuDNN, where that has one."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.fused = True

    def forward(self, x: Tensor, relu: bool = False, add: Tensor | None = None) -> Tensor:
        """As `PackedConv`."""
        if relu and self.fused:
            try:
                return self._in_one(x, add)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self.fused = False
        y = self.conv(x)
        y = y if add is None else y.add_(add)
        return y.relu_() if relu else y  # type: ignore[no-any-return]

    def _in_one(self, x: Tensor, add: Tensor | None) -> Tensor:
        conv = self.conv
        shape: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
        if add is None:
            return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *shape)
        return torch.cudnn_convolution_add_relu(x, conv.weight, add, 1, conv.bias, *shape)


def packs(weight: Tensor) -> bool:
    """Whether weights like this one can be packed: on a CPU, by a torch with oneDNN, which has packed ops in 2.x. Of
    bfloat16 it has them only where the processor has AVX-512 or instructions for it (a Raspberry Pi 5 has not)."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
