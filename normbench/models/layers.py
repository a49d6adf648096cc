"""The layers every network is built of, and how they start."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv(nn.Conv2d):
    """[N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)], for an odd kernel size.

    It has no bias: the norm that follows brings its own, or would subtract this one.
    """

    def __init__(self, channels_in: int, channels: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(channels_in, channels, size, stride=stride, padding=size // 2, bias=False)


class Classifier(nn.Linear):
    """[N, channels, H, W] -> [N, classes]: the mean over H and W, then a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean((2, 3)))


def initialize(net: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the weights of every `Conv` and `Classifier`, in module order, from `generator` alone.

    Convolutions: He et al. 2015 (arXiv 1502.01852, section 2.2, backward form): normal, variance
    2 / fan_out. The classifier, with no rectifier behind it: normal, variance 1 / fan_in; bias 0.
    Norms keep their own start and take nothing from `generator`, so that two networks that differ
    only in the norm start from equal weights.
    """
    if any(parameter.is_meta for parameter in net.parameters()):
        return  # shapes alone; drawing nothing would import half of torch
    for module in net.modules():
        if isinstance(module, Conv):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
        elif isinstance(module, Classifier):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear", generator=generator)
            nn.init.zeros_(module.bias)
