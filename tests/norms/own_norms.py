"""Two norms as a user writes them, outside normbench: one method `mix`, and any nn.Module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normbench.norms import Affine, Moments, PlaneNorm, pool, standardize


class BatchThenLayer(PlaneNorm):
    """Standardizes channels over a worker's images in training, images in evaluation."""

    def mix(self, moments: Moments) -> Affine:
        if self.training:
            return standardize(pool(moments, images=self.images), 1e-5)
        return standardize(pool(moments, channels=None), 1e-5)


class PixelNorm(nn.Module):
    """Divides each pixel by the root mean square of its channels; knows one activation."""

    per_image = True

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.bends, self.eps = activation == "relu", eps

    def forward(self, x: Tensor) -> Tensor:
        y = x.to(torch.promote_types(x.dtype, torch.float32))
        y = (y * (y.square().mean(1, keepdim=True) + self.eps).rsqrt()).to(x.dtype)
        return y.relu() if self.bends else y
