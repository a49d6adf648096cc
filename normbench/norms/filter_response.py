"""Filter Response Normalization and its relatives: norms without a mean.

Singh & Krishnan 2020, arXiv 1911.09737: FRN, eq. 1 to 4; learned ε, section 3; GFRN and LFRN (GN
and LN without the mean), table 3. Made for the thresholded activation: activation="auto" is TLU.
RMSNorm: Zhang & Sennrich 2019, arXiv 1910.07467.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.norms.base import PlaneNorm
from normbench.norms.group import group_size
from normbench.norms.plane import Affine, Moments, divide_by_rms, pool


class FilterResponseNorm(PlaneNorm):
    """Divides each plane by its root mean square: x / sqrt(E[x²] + ε).

    learned_eps: ε = eps + |eps_learned| per channel, from eps + eps_init; needed where maps are 1×1,
    on which the fixed ε leaves little but the sign.
    """

    traceable: ClassVar[bool] = True
    auto_activation: ClassVar[str] = "tlu"

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        eps: float = 1e-6,
        learned_eps: bool = False,
        eps_init: float = 1e-4,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.eps = eps
        self.eps_learned: nn.Parameter | None = None
        if learned_eps:
            self.eps_learned = nn.Parameter(torch.full((channels,), eps_init))

    def epsilon(self) -> Tensor | float:
        """ε: a number, or [C] where it is learned."""
        return self.eps if self.eps_learned is None else self.eps + self.eps_learned.abs()

    def learned(self) -> dict[str, Tensor]:
        own = super().learned()
        if own.pop("eps_learned", None) is not None:
            own["epsilon"] = torch.as_tensor(self.epsilon()).detach()
        return own

    def mix(self, moments: Moments) -> Affine:
        return divide_by_rms(moments, self.epsilon())


class GroupFilterResponseNorm(PlaneNorm):
    """GFRN: divides groups of channels of an image by their root mean square; options as for GN."""

    traceable: ClassVar[bool] = True
    auto_activation: ClassVar[str] = "tlu"

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        groups: int | None = None,
        channels_per_group: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.group_size = group_size(channels, groups, channels_per_group)
        self.eps = eps

    def mix(self, moments: Moments) -> Affine:
        return divide_by_rms(pool(moments, channels=self.group_size), self.eps)


class LayerFilterResponseNorm(PlaneNorm):
    """LFRN: divides each image by the root mean square of all its channels and pixels."""

    traceable: ClassVar[bool] = True
    auto_activation: ClassVar[str] = "tlu"

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        self.eps = eps

    def mix(self, moments: Moments) -> Affine:
        return divide_by_rms(pool(moments, channels=None), self.eps)


class RootMeanSquareNorm(LayerFilterResponseNorm):
    """RMSNorm over C, H and W: LFRN with ReLU for TLU. Its paper has no bias; here it has one, since
    the convolution leaves it to the norm."""

    auto_activation: ClassVar[str] = "relu"
