"""Moving Average Batch Normalization. Yan et al. 2020, arXiv 2001.06838; authors' code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from normbench.errors import UserError
from normbench.norms.base import PlaneNorm, move, tracks, wide
from normbench.norms.plane import Affine, Moments, pool

STEPS_WITHOUT_CORRECTION = 1000


class MovingAverageBatchNorm(PlaneNorm):
    """r·x/σ, in whose forward and backward pass statistics of the batch are means over past steps.

    σ² = ε + the mean of E[x²] over the last `window` steps; r = σ/σ_running within [1/r_max, r_max].
    Backward: gx = (g − z·ψ)·r/σ with z = x/σ and ψ the mean of E[g·z] over the last `window` steps:
    not the derivative of the forward pass. No mean is subtracted; the paper's centred convolutions,
    which its author calls optional, are not part of the norm.

    As in MABN.py of the authors' repository (its three versions differ): up to step `warmup`, or
    until the window is full, both means are the batch's own and the gradient is exact; r is 1 up to
    step 1,000. Running and past statistics are means over the workers, as all that a norm keeps here;
    the authors' are each worker's own.
    """

    num_batches_tracked: Tensor
    running_square: Tensor
    past_squares: Tensor
    past_slopes: Tensor
    repeatable = False  # a second forward pass meets statistics that the first has moved

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        window: int = 16,
        warmup: int = 100,
        r_max: float = 5.0,
        eps: float = 1e-5,
        momentum: float = 0.02,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if window < 1 or r_max < 1:
            raise UserError(f"window={window}, r_max={r_max}: both must be 1 or more")
        self.window, self.warmup, self.r_max = window, warmup, r_max
        self.eps, self.momentum = eps, momentum
        self.register_buffer("running_square", torch.ones(channels))
        self.register_buffer("past_squares", torch.zeros(window, channels))
        self.register_buffer("past_slopes", torch.zeros(window, channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def from_batch_norm(self, state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
        square = {"running_square": state["running_var"] + state["running_mean"].square()}
        own = super().from_batch_norm(state, eps)
        return {
            key: t for key, t in own.items() if key != "num_batches_tracked"
        } | square  # warm-up

    def fixed_map(self) -> Affine | None:
        if self.training:
            return None
        scale = (wide(self.running_square) + self.eps).rsqrt()
        return Affine(scale, torch.zeros_like(scale))

    def mix(self, moments: Moments) -> Affine:
        scale: Tensor = _MovingAverage.apply(moments.mean, moments.var, self, moments.count)
        return Affine(scale, torch.zeros_like(scale))

    def average(self, past: Tensor, new: Tensor, step: Tensor) -> Tensor:
        """The mean over the window with `new` [N, C] as its latest; `new` itself in the warm-up."""
        slot = torch.arange(self.window, device=past.device) == step % self.window
        others = torch.where(slot[:, None], 0, wide(past)).sum(0)
        early = (step <= self.window) | (step < self.warmup)
        if tracks():
            images = self.images or len(new)
            each = new[::images].mean(0).to(past.dtype)
            past.copy_(torch.where(slot[:, None], each, past))
        return torch.where(early, new, (others + new) / self.window)

    def moving_scale(self, square: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """1/σ and r from E[x²] of each worker, [N, C]; moves what is kept of the forward pass."""
        var = self.average(self.past_squares, square, step) + self.eps
        running = wide(self.running_square) + self.eps
        r = (var / running).sqrt().clamp(1 / self.r_max, self.r_max)
        r = torch.where(step > max(STEPS_WITHOUT_CORRECTION, self.warmup), r, 1)
        if tracks():
            images = self.images or len(square)
            move(self.running_square, var[::images].mean(0) - self.eps, self.momentum)
        return var.rsqrt(), r


class _MovingAverage(Function):
    """r/σ of each plane, with the gradient that the paper puts in place of its own."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, var: Tensor, norm: MovingAverageBatchNorm, pixels: int
    ) -> Tensor:
        plane = Moments(mean, var, pixels)
        pooled = pool(plane, images=norm.images)
        step = norm.num_batches_tracked + 1
        one_by_deviation, r = norm.moving_scale(pooled.var + pooled.mean.square(), step)
        if tracks():
            norm.num_batches_tracked.copy_(step)
        scale = r * one_by_deviation
        ctx.save_for_backward(mean, one_by_deviation, scale)
        ctx.norm, ctx.pixels, ctx.step = norm, pixels, step
        return scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        mean, one_by_deviation, scale = ctx.saved_tensors
        slope = Moments(g * scale / ctx.pixels, torch.zeros_like(g), ctx.pixels)  # E[g·z], a plane
        mean_slope = pool(slope, images=ctx.norm.images).mean
        psi = ctx.norm.average(ctx.norm.past_slopes, mean_slope, ctx.step)
        # gx = g·r/σ − x·ψ/σ², where a plane's x reaches us through its moments: dv/dx = 2(x − m)/HW
        p = -psi * one_by_deviation.square()
        return p * mean * ctx.pixels, p * ctx.pixels / 2, None, None
