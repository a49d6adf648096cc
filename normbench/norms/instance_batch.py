"""IBN-Net's norm IBN-a. Pan et al. 2018, arXiv 1807.09441, section 3; authors' code."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from normbench.errors import UserError
from normbench.norms.base import BatchStatistics
from normbench.norms.plane import Affine, Moments, standardize


class InstanceAndBatchNorm(BatchStatistics):
    """IN on the first channels, BN on the others, with one weight and bias per channel.

    share: of the channels with IN; the paper's best is a half. Running statistics are BN's alone,
    [C − share·C]. The paper puts it in the first norm of each residual block of stages 1 to 3 and
    keeps BN elsewhere; `norm_stages` chooses stages, not the place in a block. Maps of 1×1 are a
    UserError, as for IN.
    """

    traceable: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        share: float = 0.5,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.instances = int(share * channels)
        if not 0 < self.instances < channels:
            raise UserError(
                f"share={share} of {channels} channels: IN and BN must both have some; use in or bn"
            )
        self.eps = eps
        self.keep_running(momentum, channels - self.instances)

    def from_batch_norm(self, state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
        own = super().from_batch_norm(state, eps)
        return own | {k: own[k][self.instances :] for k in ("running_mean", "running_var")}

    def tracked(self, moments: Moments) -> Moments:
        mean, var, count = moments
        return Moments(mean[:, self.instances :], var[:, self.instances :], count)

    def mix(self, moments: Moments) -> Affine:
        mean, var, count = moments
        first = Moments(mean[:, : self.instances], var[:, : self.instances], count)
        instance, rest = standardize(first, self.eps), self.tracked(moments)
        batch = self.batch_norm(rest, self.eps)
        return Affine(
            torch.cat((instance.scale, batch.scale.expand_as(rest.mean)), 1),
            torch.cat((instance.shift, batch.shift.expand_as(rest.mean)), 1),
        )
