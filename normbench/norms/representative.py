"""Representative Batch Normalization. Gao et al. 2021, CVPR, eq. 2 to 7."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from normbench.norms.base import BatchStatistics
from normbench.norms.plane import Affine, Moments


class RepresentativeBatchNorm(BatchStatistics):
    """BN between two calibrations by the statistics of each plane.

    centering: x + center_weight·K before BN, whose batch and running statistics are those of the
    centred input, with K the mean or the deviation (centering_statistic) of the plane. scaling: after
    it, times sigmoid(scale_weight·K + scale_bias), with K the mean or the deviation
    (scaling_statistic) of the standardized plane. From its initial values it is
    sigmoid(1)·BN, not BN. The authors' code adds the centring to the caller's tensor; here nothing
    changes the input.
    """

    traceable: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        centering: bool = True,
        scaling: bool = True,
        scaling_statistic: Literal["mean", "std"] = "mean",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        centering_statistic: Literal["mean", "std"] = "mean",
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.eps, self.scaling_statistic = eps, scaling_statistic
        self.centering_statistic = centering_statistic
        self.center_weight = nn.Parameter(torch.zeros(channels)) if centering else None
        self.scale_weight = nn.Parameter(torch.zeros(channels)) if scaling else None
        self.scale_bias = nn.Parameter(torch.ones(channels)) if scaling else None
        self.keep_running(momentum)

    def mix(self, moments: Moments) -> Affine:
        centre = self.centre(moments)
        whiten = centre.then(self.batch_norm(centre.push(moments), self.eps))
        return whiten.then(self.gate(whiten.push(moments)))

    def tracked(self, moments: Moments) -> Moments:
        return self.centre(moments).push(moments)

    def centre(self, moments: Moments) -> Affine:
        statistic = representative(moments, self.centering_statistic)
        weight = 0.0 if self.center_weight is None else self.center_weight.to(statistic.dtype)
        return Affine(torch.ones_like(statistic), weight * statistic)

    def gate(self, white: Moments) -> Affine:
        mean = white.mean
        if self.scale_weight is None or self.scale_bias is None:
            return Affine(torch.ones_like(mean), torch.zeros_like(mean))
        statistic = representative(white, self.scaling_statistic)
        weight, bias = self.scale_weight.to(mean.dtype), self.scale_bias.to(mean.dtype)
        return Affine(torch.sigmoid(weight * statistic + bias), torch.zeros_like(mean))


def representative(moments: Moments, statistic: str) -> Tensor:
    """The mean or the deviation of each plane, [N, C]."""
    # a constant plane has no slope of the root to offer: 0, not infinity
    return moments.mean if statistic == "mean" else moments.var.clamp_min(1e-12).sqrt()
