"""Weight Standardization. Qiao et al. 2019, arXiv 1903.10520.

Each filter of a convolution is used with mean 0 and variance 1. It is no norm of activations, but is
ablated like one: GN + WS.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional

from normbench.errors import UserError

EPS = 1e-5
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


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


def standardize_weights(convolutions: Iterable[nn.Conv2d]) -> int:
    """Makes each convolution standardize its weight whenever it is called; how many were changed.

    `weight` stays the parameter that is trained and saved, so that state dicts fit both ways. A
    module becomes of a subclass: it can be copied and its state saved, but not pickled.
    """
    changed = [conv for conv in convolutions if not isinstance(conv, Standardized)]
    classes = {kind: standardized_class(kind) for kind in {type(conv) for conv in changed}}
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
    """What all convolutions with standardized weights have in common."""


def standardized_class(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """A subclass that uses the standardized weight.

    torch's own `forward` hands the weight to `_conv_forward`. One that was written anew, such as that
    of timm's Conv2dSame, reads `self.weight`, which then is the standardized one.
    """
    if kind.forward is nn.Conv2d.forward:

        def conv_forward(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            y: Tensor = kind._conv_forward(self, x, standardized(weight), bias)
            return y

        own: dict[str, Any] = {"_conv_forward": conv_forward}
    else:
        own = {"weight": property(lambda self: standardized(self._parameters["weight"]))}
    return type(f"Standardized{kind.__name__}", (Standardized, kind), own)
