"""Instance Enhancement Batch Normalization. Liang et al. 2020, arXiv 1908.04008; authors' code."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from normbench.norms.base import BatchStatistics
from normbench.norms.plane import Affine, Moments


class InstanceEnhancedBatchNorm(BatchStatistics):
    """BN times sigmoid(scale_weight·m + scale_bias), with m the mean of each plane of the input.

    scale_weight starts at 0 and scale_bias at −1, so that it starts as sigmoid(−1)·BN. RBN's scaling
    differs in its statistic, that of the standardized plane, and in its start, sigmoid(1). In
    evaluation BN is running, and the gate is the test image's.
    """

    traceable: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.eps = eps
        self.scale_weight = nn.Parameter(torch.zeros(channels))
        self.scale_bias = nn.Parameter(torch.full((channels,), -1.0))
        self.keep_running(momentum)

    def mix(self, moments: Moments) -> Affine:
        mean = moments.mean
        weight, bias = self.scale_weight.to(mean.dtype), self.scale_bias.to(mean.dtype)
        gate = Affine(torch.sigmoid(weight * mean + bias), torch.zeros_like(mean))
        return self.batch_norm(moments, self.eps).then(gate)
