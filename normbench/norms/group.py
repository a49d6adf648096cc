"""Layer, Instance and Group Normalization: one image at a time, the same in training and evaluation.

LN: Ba et al. 2016, arXiv 1607.06450; here over C, H and W with a weight per channel, as in GN's
comparison. IN: Ulyanov et al. 2016, arXiv 1607.08022. GN: Wu & He 2018, arXiv 1803.08494, eq. 7.
"""

from __future__ import annotations

from typing import ClassVar

from normbench.errors import UserError, divisors
from normbench.norms.base import PlaneNorm
from normbench.norms.plane import Affine, Moments, pool, standardize


class LayerNorm(PlaneNorm):
    """Standardizes each image over all its channels and pixels: GN with one group."""

    traceable: ClassVar[bool] = True

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
        return standardize(pool(moments, channels=None), self.eps)


class InstanceNorm(PlaneNorm):
    """Standardizes each plane: GN with as many groups as channels. Maps of 1×1 are a UserError."""

    traceable: ClassVar[bool] = True

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
        return standardize(moments, self.eps)


class GroupNorm(PlaneNorm):
    """Standardizes each image over groups of contiguous channels.

    groups: how many (32 unless told); or channels_per_group: how large. UserError where they do not
    divide the channels, or where both are given.
    """

    traceable: ClassVar[bool] = True

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
        return standardize(pool(moments, channels=self.group_size), self.eps)


def group_size(channels: int, groups: int | None, channels_per_group: int | None) -> int:
    """Channels per group, from either way to say it."""
    if channels_per_group is not None:
        if groups is not None:
            raise UserError(
                f"groups={groups} and channels_per_group={channels_per_group} say the same thing"
                " twice; set one of them to null"
            )
        if channels_per_group < 1 or channels % channels_per_group:
            raise UserError(
                f"groups of channels_per_group={channels_per_group} do not divide {channels}"
                f" channels; choose among {divisors(channels)}"
            )
        return channels_per_group
    groups = 32 if groups is None else groups
    if groups < 1 or channels % groups:
        raise UserError(
            f"groups={groups} do not divide {channels} channels; choose among {divisors(channels)}"
        )
    return channels // groups
