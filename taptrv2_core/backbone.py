"""Image features: residual networks whose four stages give the levels of stride 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taptrv2_core.config import ModelConfig
from taptrv2_core.fast.prepared import FusedConv, PackedConv

Norm = Callable[[int], nn.Module]


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics and scales are fixed buffers."""

    eps = 1e-5
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _unit(conv: nn.Module, norm: nn.Module, relu: nn.Module, x: Tensor, add: Tensor | None = None) -> Tensor:
    """Convolution, normalisation, what is to be added if anything, ReLU."""
    if isinstance(conv, (PackedConv, FusedConv)):  # the norm is part of it
        return conv(x, relu=True, add=add)  # type: ignore[no-any-return]
    y = norm(conv(x))
    return relu(y if add is None else y + add)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Residual block; subclasses define the branch beside the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def branch(self, x: Tensor, shortcut: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x, x if self.downsample is None else self.downsample(x))


class Bottleneck(_Block):
    """1x1, 3x3 (with the stride), 1x1 convolutions; four times as many channels out as inside."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__(inputs, 4 * width, stride, norm)
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), norm(width)
        self.conv2, self.bn2 = _conv3x3(width, width, stride), norm(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), norm(4 * width)

    def branch(self, x: Tensor, shortcut: Tensor) -> Tensor:
        x = _unit(self.conv1, self.bn1, self.relu, x)
        x = _unit(self.conv2, self.bn2, self.relu, x)
        return _unit(self.conv3, self.bn3, self.relu, x, shortcut)


class BasicBlock(_Block):
    """Two 3x3 convolutions, the stride in the first."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__(inputs, width, stride, norm)
        self.conv1, self.bn1 = _conv3x3(inputs, width, stride), norm(width)
        self.conv2, self.bn2 = _conv3x3(width, width), norm(width)

    def branch(self, x: Tensor, shortcut: Tensor) -> Tensor:
        x = _unit(self.conv1, self.bn1, self.relu, x)
        return _unit(self.conv2, self.bn2, self.relu, x, shortcut)


def _stage(block: type[_Block], inputs: int, width: int, blocks: int, stride: int, norm: Norm) -> nn.Sequential:
    outputs = 4 * width if block is Bottleneck else width
    first = block(inputs, width, stride, norm)
    return nn.Sequential(first, *(block(outputs, width, 1, norm) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """Stem and four stages.

    The published network has ResNet-50: a stem with max-pooling and bottleneck blocks. The compact one has a narrow
    stem and basic blocks; its first stage does the second halving, so that no detail is pooled away.
    """

    def __init__(self, kind: str, norm: Norm) -> None:
        super().__init__()
        compact = kind == "compact"
        stem = 32 if compact else 64
        widths, blocks = ((64, 96, 128, 192), (2, 2, 2, 2)) if compact else ((64, 128, 256, 512), (3, 4, 6, 3))
        block: type[_Block] = BasicBlock if compact else Bottleneck
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if compact else nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = widths if compact else tuple(4 * w for w in widths)
        inputs = (stem, *self.channels)
        strides = (2 if compact else 1, 2, 2, 2)
        stages = [_stage(block, inputs[i], widths[i], blocks[i], strides[i], norm) for i in range(4)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB -> four levels (B, channels[i], ~H / stride, ~W / stride)."""
        x = self.maxpool(_unit(self.conv1, self.bn1, self.relu, images))
        levels = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            levels.append(x)
        return levels


class Backbone(nn.Module):
    """The residual network under the name the published state dict has for it (``body``)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.body = ResNet(config.backbone, FrozenBatchNorm if config.freeze_batch_norm else nn.BatchNorm2d)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.body(images)  # type: ignore[no-any-return]
