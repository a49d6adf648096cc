"""Batch-Instance Normalization. Nam & Kim 2018, arXiv 1805.07925."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from normbench.errors import UserError
from normbench.norms.base import BatchStatistics
from normbench.norms.plane import Affine, Moments, blend, pool, standardize
from normbench.norms.roles import Role


class BatchInstanceNorm(BatchStatistics):
    """gate·BN(x) + (1 − gate)·IN(x), a mixture of normalized outputs with one gate per channel.

    The gate starts at `gate`, 1 (BN) unless told; it is trained at gate_lr_multiplier times the learning
    rate (0: it stays), without weight decay, and put back into [0, 1] after each step. In evaluation BN
    is running and IN is not. Maps of 1×1 are a UserError, as for IN.
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
        gate_lr_multiplier: float = 10.0,
        gate: float = 1.0,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if not 0 <= gate <= 1:
            raise UserError(f"gate={gate}: must be from 0 (IN) to 1 (BN)")
        self.eps = eps
        self.roles = {
            "gate": Role(decay=False, lr_multiplier=gate_lr_multiplier, interval=(0.0, 1.0))
        }
        self.gate = nn.Parameter(torch.full((channels,), float(gate)))
        self.keep_running(momentum)

    def mix(self, moments: Moments) -> Affine:
        instance = standardize(moments, self.eps)
        pooled = pool(moments, images=self.images) if self.training else self.running(moments)
        batch = standardize(pooled, self.eps)
        if self.training:
            self.track(pooled)
        return blend(self.gate.to(moments.mean.dtype), batch, instance)
