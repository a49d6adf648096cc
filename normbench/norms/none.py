"""No normalization: the bias that the convolution left to the norm, and the activation."""

from __future__ import annotations

import torch

from normbench.norms.base import PlaneNorm, pure_by_image, wide
from normbench.norms.plane import Affine


@pure_by_image
class NoNorm(PlaneNorm):
    """y = x + bias."""

    def __init__(
        self, channels: int, *, activation: str = "none", images: int | None = None
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.weight = None

    def known(self) -> Affine:
        bias = wide(self.bias)
        return Affine(torch.ones_like(bias), bias)
