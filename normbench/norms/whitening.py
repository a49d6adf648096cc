"""Norms that whiten groups of channels. The matrices and their verbs are in `covariance`.

DBN: Decorrelated Batch Normalization, Huang et al. 2018, arXiv 1804.08450. IterNorm: Huang et al.
2019, arXiv 1904.03441. In the authors' ResNets one norm is a whitening, the stem's (IterNorm) or one
before the first block (DBN), and the others are BN: `norm_stages=[0]` is the stem.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor

from normbench.errors import UserError
from normbench.norms.base import Norm
from normbench.norms.covariance import (
    Moments,
    centred,
    like_its_gradient,
    moments_of,
    newton,
    pool,
    zca,
)
from normbench.norms.group import group_size
from normbench.norms.plane import refuse_single
from normbench.norms.spread import spread_of
from normbench.norms.tracking import move, tracks, wide


class Whitening(Norm):
    """matrix·(x − mean) of each group of channels, by the statistics of a worker's images.

    channels_per_group: at most the channels there are; UserError where it does not divide them (the
    authors' code halves it until it does). Evaluation takes running_mean [C] and the average of the
    matrices, running_matrix [G, d, d], from the identity, as in the authors' code.
    """

    spreadable: ClassVar[bool] = True
    running_mean: Tensor
    running_matrix: Tensor

    def __init__(
        self,
        channels: int,
        activation: str,
        images: int | None,
        channels_per_group: int,
        eps: float,
        momentum: float,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if eps < 0:
            raise UserError(f"eps={eps}: must be 0 or more")
        self.size = group_size(channels, None, min(channels_per_group, channels))
        self.eps, self.momentum = eps, momentum
        groups = channels // self.size
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_matrix", torch.eye(self.size).repeat(groups, 1, 1))

    def from_batch_norm(self, state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
        scale = (state["running_var"] + eps).rsqrt().view(-1, self.size)
        return super().from_batch_norm(state, eps) | {"running_matrix": scale.diag_embed()}

    def matrix(self, cov: Tensor) -> Tensor:
        """What whitens: from covariances [., G, d, d], the same shape."""
        raise NotImplementedError

    def normalize(self, x: Tensor) -> Tensor:
        with full_precision(x.device.type):
            return self.activate(self.laid_out(self.whitened(like_its_gradient(wide(x))), x))

    def whitened(self, z: Tensor) -> Tensor:
        """Weight and bias included, in the dtype of z, float32 at least."""
        assert self.weight is not None
        matrix, mean = wide(self.running_matrix), wide(self.running_mean).view(-1, self.size)
        if self.training:
            each, spread = moments_of(z, self.size), spread_of(self)
            if spread is not None:
                mean, cov, count = each
                each = Moments(spread.gather(mean), spread.gather(cov), count)
            pooled = pool(each, images=self.images)
            refuse_single(pooled.count)
            matrix, mean = self.matrix(pooled.cov), pooled.mean
            if tracks():
                self.track(matrix, mean)
            images = len(each.mean) // len(mean)
            matrix, mean = (t.repeat_interleave(images, 0) for t in (matrix, mean))
            if spread is not None:
                matrix, mean = spread.own(matrix), spread.own(mean)
        whiten = centred(matrix, mean).then(self.weight.to(z.dtype), self.bias.to(z.dtype))
        return whiten.of(z)

    @torch.no_grad()
    def track(self, matrix: Tensor, mean: Tensor) -> None:
        move(self.running_matrix, matrix.mean(0), self.momentum)
        move(self.running_mean, mean.mean(0).flatten(), self.momentum)


class IterativeNorm(Whitening):
    """IterNorm: by `iterations` of Newton's method towards the inverse root of the covariance.

    The paper's 5 do not whiten fully: directions of little variance stay small.
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        channels_per_group: int = 64,
        iterations: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(channels, activation, images, channels_per_group, eps, momentum)
        if iterations < 0:
            raise UserError(f"iterations={iterations}: must be 0 or more")
        self.iterations = iterations

    def from_batch_norm(self, state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
        scale = (state["running_var"] + eps).rsqrt().view(-1, self.size)
        return super().from_batch_norm(state, eps) | {"running_matrix": scale.diag_embed()}

    def matrix(self, cov: Tensor) -> Tensor:
        return newton(cov, self.eps, self.iterations)


class DecorrelatedBatchNorm(Whitening):
    """DBN: ZCA whitening, by the eigenvectors of the covariance.

    Groups of 16 and ε = 1e-3 are those of the authors' later code (their first, in Lua, has 1e-7). A
    worker's N·H·W must be well above the channels of a group, else the matrix is noise.
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        channels_per_group: int = 16,
        eps: float = 1e-3,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(channels, activation, images, channels_per_group, eps, momentum)

    def from_batch_norm(self, state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
        scale = (state["running_var"] + eps).rsqrt().view(-1, self.size)
        return super().from_batch_norm(state, eps) | {"running_matrix": scale.diag_embed()}

    def matrix(self, cov: Tensor) -> Tensor:
        return zca(cov, self.eps)


def full_precision(device: str) -> AbstractContextManager[object]:
    """Without autocast, which would multiply matrices in 16 bits."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
