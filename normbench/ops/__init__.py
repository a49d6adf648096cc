"""The only two passes over the pixels, each with its backward: moments of planes, affine of planes.

    planes = Planes(x);  mean, var = planes.moments();  y = planes.affine(scale, shift, floor)

What happens between the two, in [N, C], is ordinary autograd. The backward pass has the same shape:
Σg and Σg·x of each plane, the derivative of what lies between, then one map gx = a·g + p·x + q.
So of all tensors of x's size only x itself is kept.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from normbench.ops import eager
from normbench.ops.eager import Floor

__all__ = ["Floor", "Planes"]


class Planes:
    """The planes of x [N, C, H, W], float16 to float64, any strides; x is never modified."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.link: dict[str, Any] | None = None  # how the backward of affine reaches that of moments

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each plane, [N, C], float32 at least."""
        self.link = {}
        self.x, mean, var = _Moments.apply(self.x, self.link)
        return mean, var

    def affine(self, scale: Tensor, shift: Tensor, floor: Floor = None) -> Tensor:
        """max(scale·x + shift, floor) in x's dtype and memory format; scale, shift [N, C] or [C]."""
        planes = self.x.shape[:2]
        y: Tensor = _Affine.apply(
            self.x, scale.expand(planes), shift.expand(planes), floor, self.link
        )
        return y


class _Moments(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, link: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = eager.moments(x)
        ctx.save_for_backward(x, mean)
        ctx.link = link
        return x, mean, var

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor, g_mean: Tensor, g_var: Tensor) -> tuple[Tensor, None]:
        x, mean = ctx.saved_tensors
        p = g_var * (2 / x[0, 0].numel())  # d var / dx = 2 (x − mean) / HW
        q = g_mean / x[0, 0].numel() - p * mean  # d mean / dx = 1 / HW
        # g came through _Affine untouched; its factor and its mask are applied here, in the same pass
        scale, shift, floor = ctx.link.pop("map")
        return eager.affine_of_two(x, g, scale, shift, floor, (p, q)), None


class _Affine(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, floor: Floor, link: dict[str, Any] | None
    ) -> Tensor:
        learned = floor if isinstance(floor, Tensor) else None
        ctx.save_for_backward(x, scale, shift, learned)
        ctx.floor, ctx.link = None if learned is not None else floor, link
        return eager.affine(x, scale, shift, floor)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, learned = ctx.saved_tensors
        floor = ctx.floor if learned is None else learned
        g_shift, g_scale, below = eager.sums(x, g, scale, shift, floor)
        g_floor = below.sum(0).to(learned.dtype) if learned is not None and below is not None else None
        if ctx.link is None:  # no moments were taken: x reaches y through the map alone
            gx = None
            if ctx.needs_input_grad[0]:
                gx = eager.affine_of_two(x, g, scale, shift, floor, None)
        else:
            gx, ctx.link["map"] = g, (scale, shift, floor)
        return gx, g_scale, g_shift, g_floor, None
