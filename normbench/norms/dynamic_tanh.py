"""Dynamic Tanh. Zhu et al. 2025, arXiv 2503.10622."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normbench.norms.base import Norm
from normbench.norms.tracking import wide


class DynamicTanh(Norm):
    """tanh(steepness·x), weight and bias: no statistic at all.

    steepness: the paper's α, one number a layer, from `init`. Made for transformers; the paper itself
    shows it below BN in ResNet-50 and VGG-19 (table 16).
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        init: float = 0.5,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.steepness = nn.Parameter(torch.full((1,), init))

    def normalize(self, x: Tensor) -> Tensor:
        z = wide(x)
        return self.finish(torch.tanh(self.steepness.to(z.dtype) * z), x)
