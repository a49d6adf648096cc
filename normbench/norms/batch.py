"""Batch Normalization. Ioffe & Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2."""

from __future__ import annotations

from typing import ClassVar

from normbench.norms.base import BatchStatistics
from normbench.norms.plane import Affine, Moments, standardize


class BatchNorm(BatchStatistics):
    """Standardizes each channel over the pixels of a worker's images.

    Training normalizes with the biased variance; running_var takes the factor m / (m − 1).
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
        self.keep_running(momentum)

    def fixed_map(self) -> Affine | None:
        fixed = not (self.training or self.own_weight)
        return standardize(self.running(), self.eps) if fixed else None

    def mix(self, moments: Moments) -> Affine:
        return self.batch_norm(moments, self.eps)
