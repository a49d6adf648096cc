"""Norms over the channels of each position: ordinary modules.

LN2d: the LayerNorm of ConvNeXt, Liu et al. 2022, arXiv 2201.03545. PONO: Positional Normalization,
Li et al. 2019, arXiv 1907.04312.
"""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.norms.base import Norm
from normbench.norms.tracking import wide


class PositionLayerNorm(Norm):
    """Standardizes the channels of each pixel of each image, with a weight and a bias per channel.

    ConvNeXt has it once a block, not after every convolution.
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.eps = eps

    def normalize(self, x: Tensor) -> Tensor:
        z = wide(x)
        var, mean = torch.var_mean(z, 1, correction=0, keepdim=True)
        return self.finish((z - mean) * (var + self.eps).rsqrt(), x)


class PositionalNorm(PositionLayerNorm):
    """The same without a weight and a bias, ε = 1e-5.

    The paper's formula, with the biased variance; the authors' PyTorch code divides by C − 1. Their
    moment shortcut, which hands mean and deviation to the decoder of a generator, is not here.
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(channels, activation=activation, images=images, eps=eps)
        self.weight = None
        self.register_parameter("bias", None)
