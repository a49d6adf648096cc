"""Batch Group Normalization. Zhou et al. 2020, arXiv 2012.02782."""

from __future__ import annotations

from typing import ClassVar

from normbench.norms.batch import BatchNorm
from normbench.norms.group import group_size
from normbench.norms.plane import Affine, Moments, pool


class BatchGroupNorm(BatchNorm):
    """Standardizes groups of contiguous channels over the pixels of a worker's images.

    One group a channel is BN; one group is LN pooled over the images. The paper takes few groups for
    small batches and many for large ones. Evaluation with running statistics, ε and momentum are
    BN's, since the paper's abstract, all of it that we could read, does not tell; running statistics
    are kept per channel, equal within a group.
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
        momentum: float | None = 0.1,
    ) -> None:
        super().__init__(channels, activation=activation, images=images, eps=eps, momentum=momentum)
        self.group_size = group_size(channels, groups, channels_per_group)

    def tracked(self, moments: Moments) -> Moments:
        return pool(moments, channels=self.group_size)

    def mix(self, moments: Moments) -> Affine:
        return self.batch_norm(self.tracked(moments), self.eps)
