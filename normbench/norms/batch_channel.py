"""Batch-Channel Normalization. Qiao et al. 2019, arXiv 1911.09738; authors' code."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from normbench.norms.base import BatchStatistics
from normbench.norms.group import group_size
from normbench.norms.plane import Affine, Moments, pool, standardize


class BatchChannelNorm(BatchStatistics):
    """BN with a weight and a bias of its own, then GN of the result.

    batch_weight and batch_bias move channels against each other before the groups are standardized.
    The last weight and bias are per channel, as every norm's here; the authors' code has one of each
    per group. In evaluation BN is running and GN is not. The authors train it with weight
    standardization. Their variant for micro-batches (EstBN) is not here: its rate, a buffer that
    starts at 0, has no published schedule.
    """

    traceable: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        groups: int | None = None,
        channels_per_group: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.group_size = group_size(channels, groups, channels_per_group)
        self.eps = eps
        self.batch_weight = nn.Parameter(torch.ones(channels))
        self.batch_bias = nn.Parameter(torch.zeros(channels))
        self.keep_running(momentum)

    def mix(self, moments: Moments) -> Affine:
        wide = moments.mean.dtype
        own = Affine(self.batch_weight.to(wide), self.batch_bias.to(wide))
        batch = self.batch_norm(moments, self.eps).then(own)
        return batch.then(
            standardize(pool(batch.push(moments), channels=self.group_size), self.eps)
        )
