"""No normalization: the bias that the convolution left to the norm, and the activation."""

from __future__ import annotations

from typing import ClassVar

import torch

from normbench.norms.base import PlaneNorm
from normbench.norms.plane import Affine
from normbench.norms.tracking import wide


class NoNorm(PlaneNorm):
    """y = x + bias."""

    traceable: ClassVar[bool] = True

    def __init__(
        self, channels: int, *, activation: str = "none", images: int | None = None
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.weight = None

    def fixed_map(self) -> Affine:
        bias = wide(self.bias)
        return Affine(torch.ones_like(bias), bias)
