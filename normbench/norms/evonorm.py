"""EvoNorm-B0 and EvoNorm-S0. Liu et al. 2020, arXiv 2004.02967; authors' code.

Norm and activation in one, found by search: the nonlinearity is inside, and activation="auto" adds
none. The authors use them in pre-activation networks. Where no activation is to follow
(nonlinear=False, which the networks here ask for there), only weight and bias are left, as in the
authors' code. The joint after an addition, which other networks have, keeps its ReLU.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.errors import UserError
from normbench.norms.base import Norm
from normbench.norms.group import group_size
from normbench.norms.plane import Moments, pool, refuse_single
from normbench.norms.roles import Role
from normbench.norms.spread import gathered, spread_of
from normbench.norms.tracking import move, tracks, wide
from normbench.ops import Planes


class EvoNorm(Norm):
    """What both share: `v` [C], from 1, in the nonlinearity. Statistics are of `Planes`, as fast as
    any norm's; the nonlinearity is no affine map of planes and runs in torch."""

    auto_activation: ClassVar[str] = "none"
    has_nonlinearity: ClassVar[bool] = True

    def __init__(
        self, channels: int, activation: str, images: int | None, nonlinear: bool, eps: float
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if eps < 0:
            raise UserError(f"eps={eps}: must be 0 or more")
        self.nonlinear, self.eps = nonlinear, eps
        self.v = nn.Parameter(torch.ones(channels)) if nonlinear else None
        self.roles = {"v": Role(decay=False)} if nonlinear else {}


class EvoNormS0(EvoNorm):
    """x·sigmoid(v·x) / sqrt(variance of the group + ε): each image by itself.

    groups: of contiguous channels, 32 unless told. UserError where they do not divide the channels;
    the authors' code takes the next smaller number that does.
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        groups: int | None = None,
        channels_per_group: int | None = None,
        eps: float = 1e-5,
        nonlinear: bool = True,
    ) -> None:
        super().__init__(channels, activation, images, nonlinear, eps)
        self.group_size = group_size(channels, groups, channels_per_group)

    def normalize(self, x: Tensor) -> Tensor:
        if self.v is None:
            return self.finish(x, x)
        moments = Moments(*Planes(x).moments(), x.shape[2] * x.shape[3])
        pooled = pool(moments, channels=self.group_size)
        refuse_single(pooled.count)
        z = wide(x)
        z = z * torch.sigmoid(self.v.to(z.dtype)[:, None, None] * z)
        return self.finish(z, x, (pooled.var + self.eps).rsqrt())


class EvoNormB0(EvoNorm):
    """x / max(sqrt(variance of the channel over a worker's images + ε), v·x + sqrt(variance of the
    plane + ε)).

    No mean is subtracted. running_var [C], from 1, follows the biased variance and takes the place of
    the batch's in evaluation, where the plane's is still the test image's.
    """

    spreadable: ClassVar[bool] = True
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        nonlinear: bool = True,
    ) -> None:
        super().__init__(channels, activation, images, nonlinear, eps)
        self.momentum = momentum
        if nonlinear:
            self.register_buffer("running_var", torch.ones(channels))

    def normalize(self, x: Tensor) -> Tensor:
        if self.v is None:
            return self.finish(x, x)
        moments = Moments(*Planes(x).moments(), x.shape[2] * x.shape[3])
        batch = (self.batch_var(moments) + self.eps).sqrt()
        plane = (moments.var + self.eps).sqrt()
        z = wide(x)
        right = self.v.to(z.dtype)[:, None, None] * z + plane[:, :, None, None]
        return self.finish(z / torch.maximum(batch.expand_as(plane)[:, :, None, None], right), x)

    def batch_var(self, moments: Moments) -> Tensor:
        """The variance of a worker's channel [N, C], tracked; in evaluation the running one [C]."""
        if not self.training:
            return wide(self.running_var)
        if (spread := spread_of(self)) is not None:
            moments = gathered(spread, moments)
        pooled = pool(moments, images=self.images)
        refuse_single(pooled.count)
        if tracks():
            images = self.images or len(pooled.var)
            move(self.running_var, pooled.var.detach()[::images].mean(0), self.momentum)
        return pooled.var if spread is None else spread.own(pooled.var)
