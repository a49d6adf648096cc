"""The algebra of plane norms: four verbs between the moments of planes and an affine map.

A plane is one channel of one image: the H×W numbers x[n, c]. Every tensor here is [N, C], or
broadcasts to it. A norm is a sentence of these verbs: `pool` says which planes share statistics,
`standardize` gives the map, `then` composes maps, `push` gives the moments after a map.

>>> from torch.testing import assert_close
>>> x = torch.randn(4, 6, 5, 5, dtype=torch.float64)
>>> var, mean = torch.var_mean(x, (2, 3), correction=0)
>>> planes = Moments(mean, var, count=25)

Batch norm pools the images of a worker, layer norm all channels, group norm some of them. Layer norm
is group norm with one group, and instance norm is group norm with a group for each channel:

>>> bn = standardize(pool(planes, images=4), eps=1e-5)
>>> ln = standardize(pool(planes, channels=6), eps=1e-5)
>>> def gn(groups):
...     return standardize(pool(planes, channels=6 // groups), eps=1e-5)
>>> assert_close(gn(groups=1), ln)
>>> assert_close(gn(groups=6), standardize(planes, eps=1e-5))

Pooling the pooled is pooling once, and what was standardized has mean 0 and variance 1:

>>> everything = pool(planes, images=4, channels=6)
>>> assert_close(pool(pool(planes, channels=6), images=4), everything)
>>> white = pool(standardize(everything, eps=0.0).push(planes), images=4, channels=6)
>>> assert_close((white.mean, white.var), (torch.zeros_like(mean), torch.ones_like(var)))

Two maps, one after the other, are one map: moments go through the two as through the one. A blend
is its first map where the gate is 1:

>>> assert_close(bn.then(ln).push(planes), ln.push(bn.push(planes)))
>>> assert_close(blend(torch.ones(6), bn, ln), bn)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from normbench.errors import UserError, divisors


class Moments(NamedTuple):
    """Mean and biased variance, and of how many numbers each was taken (0: running)."""

    mean: Tensor
    var: Tensor
    count: int  # type: ignore[assignment]  # a field, not tuple.count


class Affine(NamedTuple):
    """The map x → scale·x + shift of each plane."""

    scale: Tensor
    shift: Tensor

    def then(self, outer: Affine) -> Affine:
        """`outer` after this map."""
        return Affine(outer.scale * self.scale, outer.scale * self.shift + outer.shift)

    def push(self, moments: Moments) -> Moments:
        """The moments after the map: exact."""
        mean, var, count = moments
        return Moments(self.scale * mean + self.shift, self.scale.square() * var, count)


def pool(moments: Moments, *, images: int | None = 1, channels: int | None = 1) -> Moments:
    """Moments of blocks of `images` × `channels` planes (None: all), by the law of total variance.

    M = mean(m), V = mean(v) + mean((m − M)²), returned for each plane of the block: [N, C].
    Raises UserError where a block does not divide [N, C].
    """
    n, c = moments.mean.shape
    images, channels = worker(n, images), channels or c
    if c % channels:
        raise UserError(f"channels={channels} does not divide {c}; it may be {divisors(c)}")
    blocks = n // images, images, c // channels, channels
    mean, var = moments.mean.reshape(blocks), moments.var.reshape(blocks)
    pooled = mean.mean((1, 3), keepdim=True)
    total = var.mean((1, 3), keepdim=True) + (mean - pooled).square().mean((1, 3), keepdim=True)
    return Moments(over(pooled, n, c), over(total, n, c), moments.count * images * channels)


def worker(n: int, images: int | None) -> int:
    """How many of n images a worker has: `images`, or all. UserError where it does not divide n."""
    if images and n % images:
        raise UserError(
            f"images={images} does not divide a batch of {n} images; it is the number of images per"
            f" worker and may be {divisors(n)}"
        )
    return images or n


def over(pooled: Tensor, n: int, c: int) -> Tensor:
    """Numbers of blocks [N/images, 1, C/channels, 1] for each of their planes: [N, C]."""
    rows, _, columns, _ = pooled.shape
    if rows in (1, n) and columns in (1, c):
        return pooled.view(rows, columns).expand(n, c)  # a view, where one can say it
    return pooled.expand(rows, n // rows, columns, c // columns).reshape(n, c)


def standardize(moments: Moments, eps: float) -> Affine:
    """The map that gives mean 0 and variance 1: (x − mean) / sqrt(var + eps).

    Raises UserError where the moments were taken over a single number.
    """
    refuse_single(moments.count)
    if eps < 0:
        raise UserError(f"eps={eps}: must be 0 or more")
    scale = torch.rsqrt(moments.var + eps)
    return Affine(scale, -moments.mean * scale)


def refuse_single(count: int) -> None:
    """UserError for statistics of a single number."""
    if count == 1:
        raise UserError(
            "cannot normalize by the statistics of a single number (one image of 1×1 pixels, or"
            " instance statistics of 1×1 maps); use larger maps, more images per worker, or a norm"
            " that pools channels (ln, gn) or has no mean (frn with learned_eps)"
        )


def divide_by_rms(moments: Moments, eps: Tensor | float) -> Affine:
    """The map x / sqrt(E[x²] + eps), without a mean; E[x²] = var + mean² has no cancellation."""
    if isinstance(eps, float) and eps < 0:
        raise UserError(f"eps={eps}: must be 0 or more")
    scale = torch.rsqrt(moments.var + moments.mean.square() + eps)
    return Affine(scale, torch.zeros_like(scale))


def mixture(weights: tuple[Tensor, Tensor], parts: list[Moments]) -> Moments:
    """Σ wₖ·meanₖ and Σ w'ₖ·varₖ: a mixture of statistics, not of normalized outputs."""
    for_mean, for_var = weights
    mean = sum(w * part.mean for w, part in zip(for_mean, parts, strict=True))
    var = sum(w * part.var for w, part in zip(for_var, parts, strict=True))
    assert isinstance(mean, Tensor) and isinstance(var, Tensor)
    counts = [part.count for part in parts]
    return Moments(mean, var, max(counts) if min(counts) > 0 else 0)


def combine(first: Moments, second: Moments, share: float) -> Moments:
    """The moments of numbers of which `share` are from the second and the rest from the first.

    M = (1 − a)·M₁ + a·M₂, V = (1 − a)·V₁ + a·V₂ + a(1 − a)(M₁ − M₂)²: the law of total variance.
    """
    rest = 1 - share
    mean = rest * first.mean + share * second.mean
    var = rest * first.var + share * second.var
    var = var + share * rest * (first.mean - second.mean).square()
    return Moments(mean, var, first.count if rest else second.count)


def blend(gate: Tensor, first: Affine, second: Affine) -> Affine:
    """gate·first(x) + (1 − gate)·second(x): a mixture of normalized outputs."""
    return Affine(
        gate * first.scale + (1 - gate) * second.scale,
        gate * first.shift + (1 - gate) * second.shift,
    )


def check_map(norm: str, found: Any, planes: torch.Size) -> None:
    """UserError where what the `mix` of the class `norm` returned is no Affine that broadcasts to the
    planes, [N, C]."""
    if isinstance(found, Affine) and all(fits(part, planes) for part in found):
        return
    got = type(found).__name__ if found is not None else "None"
    if isinstance(found, tuple):
        parts = (list(part.shape) if isinstance(part, Tensor) else repr(part) for part in found)
        got += f" of {', '.join(map(str, parts))}"
    raise UserError(
        f"{norm}.mix must return an Affine that broadcasts to {list(planes)}; it returned {got}"
    )


def fits(part: Any, planes: torch.Size) -> bool:
    """Whether a part of a map is a tensor that broadcasts to [N, C]."""
    if not isinstance(part, Tensor) or part.dim() > 2:
        return False
    sizes = zip(reversed(part.shape), reversed(planes), strict=False)
    return part.shape == planes or all(size in (1, whole) for size, whole in sizes)
