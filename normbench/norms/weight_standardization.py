"""Weight Standardization. Qiao et al. 2019, arXiv 1903.10520.

Each filter of a convolution is used with mean 0 and variance 1. It is no norm of activations, but is
ablated like one: GN + WS. MABN (Yan et al. 2020, arXiv 2001.06838) centres filters alone: mean 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, fx, nn
from torch.nn import functional

from normbench.errors import UserError

EPS = 1e-5
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
Weights = (
    bool | Literal["centred"]
)  # True: mean 0 and variance 1; "centred": mean 0; False: as they are


@fx.wrap  # a single call in a graph of torch.fx: it looks at the memory layout
def standardized(weight: Tensor) -> Tensor:
    """The weight [out, in / groups, kh, kw] with mean 0 and variance 1 over each filter weight[o].

    (w − mean) / sqrt(var + 1e-5), with the biased variance of the paper. The paper adds ε to the
    deviation, and so does the authors' first code, whose variance is unbiased; as in their later one
    (Batch-Channel-Normalization) ε is inside the root, which has no slope at 0 otherwise. The result
    has the dtype and memory format of the weight.
    """
    if weight.is_contiguous():
        return functional.layer_norm(weight, weight.shape[1:], eps=EPS)
    filters = weight.permute(0, 2, 3, 1)  # as a channels-last weight lies in memory
    return functional.layer_norm(filters, filters.shape[1:], eps=EPS).permute(0, 3, 1, 2)


def centred(weight: Tensor) -> Tensor:
    """The weight with mean 0 over each filter. It takes the place of the mean that MABN does not subtract."""
    return weight - weight.mean((1, 2, 3), keepdim=True)


def standardize_weights(convolutions: Iterable[nn.Conv2d], how: Weights = True) -> int:
    """Makes each convolution standardize, or centre, its weight whenever it is called; how many were
    changed.

    `weight` stays the parameter that is trained and saved, so that state dicts fit both ways. A
    module becomes of a subclass, which is copied and pickled as the class itself is.
    """
    changed = [conv for conv in convolutions if not isinstance(conv, Standardized)]
    classes = {kind: standardized_class(kind, how) for kind in {type(conv) for conv in changed}}
    for conv in changed:
        conv.__class__ = classes[type(conv)]
    return len(changed)


def convolutions_to_standardize(model: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a network that are followed by a norm, as far as their modules tell.

    Those without a bias, for the norm brings one, and those with a batch norm registered right after
    them in the same module (as in VGG). The rest (squeeze-and-excitation, classifiers) would change
    its scale for good. A filter of a single number has no deviation and is left out too. UserError
    for a LazyConv2d, whose filters are not known yet.
    """
    found: dict[nn.Conv2d, None] = {}
    for parent in model.modules():
        for conv, follower in pairwise([*parent.children(), None]):
            if isinstance(conv, nn.LazyConv2d):
                raise UserError(
                    "weight_standardization=true: a LazyConv2d has no filters yet; run the model"
                    " once, then convert it"
                )
            if not isinstance(conv, nn.Conv2d) or conv.weight[0].numel() == 1:
                continue
            if conv.bias is None or isinstance(follower, BatchNorm):
                found[conv] = None
    return list(found)


class Standardized:
    """What all convolutions with standardized or centred weights have in common."""


def standardized_class(kind: type[nn.Conv2d], how: Weights) -> type[nn.Conv2d]:
    """A subclass that uses the standardized, or centred, weight.

    torch's own `forward` hands the weight to `_conv_forward`. One that was written anew, such as that
    of timm's Conv2dSame, reads `self.weight`, which then is the standardized one.
    """

    def used(weight: Tensor) -> Tensor:  # torch.fx finds `standardized` by its name in this module
        return centred(weight) if how == "centred" else standardized(weight)

    def conv_forward(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = kind._conv_forward(self, x, used(weight), bias)
        return y

    def reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
        return without_state, (kind, how), dict(vars(self))

    own: dict[str, Any] = {"_conv_forward": conv_forward}
    if kind.forward is not nn.Conv2d.forward:
        own = {"weight": property(lambda self: used(self._parameters["weight"]))}
    own["__reduce_ex__"] = reduce
    word = "Centred" if how == "centred" else "Standardized"
    return type(f"{word}{kind.__name__}", (Standardized, kind), own)


def without_state(kind: type[nn.Conv2d], how: Weights) -> nn.Module:
    """A module of `standardized_class` whose state is set by whoever copies or unpickles it."""
    made = standardized_class(kind, how)
    return made.__new__(made)
