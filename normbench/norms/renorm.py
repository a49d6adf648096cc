"""Batch Renormalization. Ioffe 2017, arXiv 1702.03275, algorithm 1."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from normbench.errors import UserError
from normbench.norms.base import PlaneNorm
from normbench.norms.evaluation import RunningStatistics
from normbench.norms.plane import Affine, Moments, pool, standardize
from normbench.norms.tracking import move, tracks, wide

PAPER_STEPS = 40_000  # r_max grows over steps 5,000 to 40,000, d_max over 5,000 to 25,000


class BatchRenorm(RunningStatistics, PlaneNorm):
    """BN whose output is corrected, without gradient, towards the running statistics.

    x̂ = (x − μ)/σ·r + d,  r = σ/σ_running within [1/r_max, r_max],  d = (μ − μ_running)/σ_running
    within ±d_max, with σ = sqrt(var + eps) and the running mean and deviation of before the step.
    warmup: r_max grows from 1 and d_max from 0 on the paper's schedule over 40,000 steps (True), the
    same over so many steps (a number), or not at all (False).
    """

    traceable: ClassVar[bool] = True

    running_mean: Tensor
    running_std: Tensor
    num_batches_tracked: Tensor
    repeatable = False  # a second forward pass meets statistics that the first has moved

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warmup: bool | int = True,
        eps: float = 1e-3,
        momentum: float = 0.01,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if r_max < 1 or d_max < 0 or warmup < 0:
            raise UserError(
                f"r_max={r_max}, d_max={d_max}, warmup={warmup}: r_max must be 1 or more, d_max and"
                " warmup 0 or more"
            )
        self.r_max, self.d_max, self.eps, self.momentum = r_max, d_max, eps, momentum
        self.warmup = PAPER_STEPS if warmup is True else int(warmup)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_std", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def from_batch_norm(self, state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
        std = {"running_std": (state["running_var"] + eps).sqrt()}
        own = super().from_batch_norm(state, eps)
        return {key: t for key, t in own.items() if key != "num_batches_tracked"} | std  # warm-up

    def fixed_map(self) -> Affine | None:
        if self.training or self.own_weight:
            return None
        scale = 1 / wide(self.running_std)
        return Affine(scale, -wide(self.running_mean) * scale)

    def set_running(self, mean: Tensor, var: Tensor) -> None:
        self.running_mean.copy_(mean)
        self.running_std.copy_((var + self.eps).sqrt())

    def mix(self, moments: Moments) -> Affine:
        if not self.training:
            var = wide(self.running_std).square() - self.eps  # which has ε in it
            running = Moments(wide(self.running_mean), var, count=0)
            return standardize(self.mixed_with_own(running, moments), self.eps)
        pooled = pool(moments, images=self.images)
        affine = standardize(pooled, self.eps)
        with torch.no_grad():
            mean, std = pooled.mean.detach(), (pooled.var.detach() + self.eps).sqrt()
            running_mean, running_std = wide(self.running_mean), wide(self.running_std)
            r_max, d_max = self.limits()
            r = torch.clamp(std / running_std, 1 / r_max, r_max)
            d = torch.clamp((mean - running_mean) / running_std, -d_max, d_max)
            if tracks():
                images = self.images or len(mean)
                move(self.running_mean, mean[::images].mean(0), self.momentum)
                move(self.running_std, std[::images].mean(0), self.momentum)
                self.num_batches_tracked += 1
        return affine.then(Affine(r, d))

    def limits(self) -> tuple[Tensor, Tensor]:
        """r_max and d_max at this step, on the device of the buffers."""
        part = self.num_batches_tracked / max(self.warmup, 1)  # of the warm-up
        if self.warmup == 0:
            part = torch.ones_like(part)
        start, r_end, d_end = 5 / 40, 1.0, 25 / 40
        r = torch.clamp((part - start) / (r_end - start), 0, 1)
        d = torch.clamp((part - start) / (d_end - start), 0, 1)
        return 1 + r * (self.r_max - 1), d * self.d_max
