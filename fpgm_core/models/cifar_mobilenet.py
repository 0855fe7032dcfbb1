"""MobileNetV2 (Sandler et al., CVPR 2018), sized for CIFAR: inverted residuals around depthwise convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STEM, _HEAD = 16, 160
# Expansion, channels, blocks, stride of the first: the paper's table 2, narrower, and without its early strides.
_STAGES = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 40, 3, 2), (4, 64, 3, 1))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection without activation; a shortcut where the shape stays."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = nn.Conv2d(in_channels, hidden, 1, bias=False) if expansion > 1 else nn.Identity()
        self.bn1 = nn.BatchNorm2d(hidden) if expansion > 1 else nn.Identity()
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.expanded = expansion > 1
        self.shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        out = F.relu6(self.bn1(self.expand(x))) if self.expanded else x
        out = F.relu6(self.bn2(self.depthwise(out)))
        out = self.bn3(self.project(out))
        return out + x if self.shortcut else out


class CifarMobileNetV2(nn.Module):
    """A 3x3 stem, nine inverted residuals in four stages at 32, 16, 8 and 8 pixels, a 1x1 head: 12.9 million MACs."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.layer1, self.layer2, self.layer3, self.layer4 = self._stages()
        self.head = nn.Conv2d(_STAGES[-1][1], _HEAD, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD)
        self.fc = nn.Linear(_HEAD, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stages() -> list[nn.Sequential]:
        stages, channels = [], _STEM
        for expansion, width, blocks, stride in _STAGES:
            first = InvertedResidual(channels, width, stride, expansion)
            rest = (InvertedResidual(width, width, 1, expansion) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            channels = width
        return stages

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, 32, 32) to logits (B, num_classes)."""
        out = F.relu6(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            out = stage(out)
        out = F.relu6(self.bn2(self.head(out)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))
