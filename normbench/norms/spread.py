"""Where the images of one worker lie in several processes: their moments are gathered, and mixed as one.

A norm then sees the planes of all images of the worker, as in one process, and each process takes the
rows of its own. So batch norms of every kind pool over all devices (SyncBN).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from normbench.norms.plane import Affine, Moments

if TYPE_CHECKING:
    from normbench.norms.base import Norm, PlaneNorm


class Spread(Protocol):
    """The processes that have the images of a worker, equally many each, in the order of the ranks."""

    def gather(self, own: Tensor) -> Tensor:
        """What all have, [ranks·n, ...], from [n, ...] of this one; gradients of all are added up."""
        ...

    def own(self, of_all: Tensor) -> Tensor:
        """The rows [n, ...] of this process's images."""
        ...


def spread_of(norm: Norm) -> Spread | None:
    """Where the images of its worker lie, if the norm pools them now and they are not all here."""
    return norm.spread if norm.training else None


def mixed(norm: PlaneNorm, moments: Moments) -> Affine:
    """`norm.mix` of the planes of all images of a worker, for those that lie in this process."""
    if (spread := spread_of(norm)) is None:
        return norm.mix(moments)
    of_all = gathered(spread, moments)
    scale, shift = (spread.own(t.expand_as(of_all.mean)) for t in norm.mix(of_all))
    return Affine(scale, shift)


def gathered(spread: Spread, moments: Moments) -> Moments:
    """The moments [ranks·n, C] of all planes, in one message."""
    both = spread.gather(torch.stack((moments.mean, moments.var), 1))
    return Moments(both[:, 0], both[:, 1], moments.count)
