"""The two kernel pairs in plain torch: the definition that every other backend is tested against.

It is the backend that users call `eager`. Shapes: x, g and results of their size are [N, C, H, W]; every
other tensor is [N, C], a lower bound that is a tensor [C]. Numbers of a plane are float32 at least;
results of x's size have x's dtype and strides.
"""

from __future__ import annotations

import torch
from torch import Tensor

LowerBound = Tensor | float | None  # nothing, a number (ReLU: 0) or a threshold per channel (TLU)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each plane. Two passes: E[x²] − E[x]² cancels in float32."""
    var, mean = torch.var_mean(_wide(x), dim=(2, 3), correction=0)
    return mean, var


def affine(x: Tensor, scale: Tensor, shift: Tensor, lower_bound: LowerBound) -> Tensor:
    """max(scale·x + shift, lower_bound)."""
    y = _map(x, scale, shift)
    if lower_bound is not None:
        low = _per_channel(lower_bound, y)
        y = y.clamp_min_(low) if isinstance(low, float) else torch.maximum(y, low)
    return y.to(x.dtype)


def sums(
    x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, lower_bound: LowerBound
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Σg and Σg·x over the pixels that the lower_bound let through, and Σg over those that it did not."""
    x, g = _wide(x), _wide(g)
    below = None
    if lower_bound is not None:
        total = g.sum((2, 3))
        g = _masked(x, g, scale, shift, lower_bound)
        below = total - g.sum((2, 3))
    return g.sum((2, 3)), (g * x).sum((2, 3)), below


def affine_of_two(
    x: Tensor,
    g: Tensor,
    scale: Tensor,
    shift: Tensor,
    lower_bound: LowerBound,
    of_x: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """scale·g + p·x + q with g masked by the lower_bound and (p, q) = `of_x`; None: scale·g alone."""
    wide = _wide(x)
    g = _masked(wide, _wide(g), scale, shift, lower_bound)
    gx = torch.mul(g, _plane(scale), out=torch.empty_like(wide))  # x's strides, whatever g has
    if of_x is not None:
        p, q = of_x
        gx = gx.add_(_map(x, p, q))
    return gx.to(x.dtype)


def through_moments(
    mean: Tensor, g_mean: Tensor, g_var: Tensor, pixels: int
) -> tuple[Tensor, Tensor]:
    """(p, q) [N, C] of p·x + q: the gradient that reaches x through the mean and variance of its planes.

    g_mean, g_var: their gradients; pixels: H·W. d var / dx = 2 (x − mean) / HW; d mean / dx = 1 / HW.
    """
    p = g_var * (2 / pixels)
    return p, g_mean / pixels - p * mean


def _map(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(_plane(shift), _wide(x), _plane(scale))


def _masked(x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, lower_bound: LowerBound) -> Tensor:
    if lower_bound is None:
        return g
    y = _map(x, scale, shift)
    return g * (y > _per_channel(lower_bound, y))


def _per_channel(lower_bound: Tensor | float, like: Tensor) -> Tensor | float:
    if isinstance(lower_bound, Tensor):
        return lower_bound.to(like.dtype)[None, :, None, None]
    return lower_bound


def _plane(numbers: Tensor) -> Tensor:
    return numbers[:, :, None, None]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
