"""Switchable Normalization. Luo et al. 2019, arXiv 1806.10779."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.errors import UserError
from normbench.norms.base import BatchStatistics
from normbench.norms.plane import Affine, Moments, mixture, pool, standardize

PARTS = ("in", "ln", "bn")


class SwitchableNorm(BatchStatistics):
    """Standardizes with a learned mixture of instance, layer and batch statistics.

    The weights of means and of variances are softmaxes of two logits vectors, mean_weight and
    var_weight, in the order IN, LN, BN. using: the parts that take part (without bn: the paper's SN
    for one image per worker). Biased variances, as in the paper; the authors' code has the unbiased
    one of an instance, which is NaN on 1×1 maps. In evaluation only the BN part is running.
    """

    traceable: ClassVar[bool] = True
    unbiased: ClassVar[bool] = False

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        using: Sequence[str] = PARTS,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if not using or set(using) - set(PARTS) or len(set(using)) != len(using):
            raise UserError(f"using={list(using)} is not one or more of {', '.join(PARTS)}")
        self.using = tuple(part for part in PARTS if part in using)
        self.eps = eps
        self.mean_weight = nn.Parameter(torch.ones(len(self.using)))
        self.var_weight = nn.Parameter(torch.ones(len(self.using)))
        if momentum is None:
            raise UserError(
                "momentum=null: sn keeps no count of batches; give a number, such as 0.1"
            )
        if "bn" in self.using:
            self.keep_running(momentum)
            self.num_batches_tracked = None

    def mix(self, moments: Moments) -> Affine:
        parts = {name: self.part(name, moments) for name in self.using}
        weights = self.ratios(moments.mean.dtype)
        affine = standardize(mixture(weights, list(parts.values())), self.eps)
        if self.training and "bn" in parts:
            self.track(parts["bn"])
        return affine

    def ratios(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What each part weighs in the mean and in the variance."""
        return self.mean_weight.to(dtype).softmax(0), self.var_weight.to(dtype).softmax(0)

    def learned(self) -> dict[str, Tensor]:
        own = super().learned()
        own["mean_weight"], own["var_weight"] = (
            t.detach() for t in self.ratios(self.mean_weight.dtype)
        )
        return own

    def part(self, name: str, moments: Moments) -> Moments:
        """The statistics of one part, from the moments of planes."""
        if name == "in":
            return moments
        if name == "ln":
            return pool(moments, channels=None)
        return pool(moments, images=self.images) if self.training else self.running(moments)
