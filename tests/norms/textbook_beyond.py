"""The norms beyond the first papers, as `textbook` has those."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .textbook import (
    State,
    bn_plain,
    column,
    gamma_beta,
    mean_var,
    move,
    standardized,
)


# Zhou et al. 2020: C, H, W in groups, over N and the group
def bgn(
    x: Tensor, s: State, training: bool, groups: int, eps: float = 1e-5, momentum: float = 0.1
) -> Tensor:
    n, c, h, w = x.shape
    if not training:
        return gamma_beta(bn_plain(x, s, False, eps), s)
    grouped = x.reshape(n, groups, c // groups, h, w)
    mean, var = mean_var(grouped, (0, 2, 3, 4))
    m = grouped[:, 0].numel()
    s["num_batches_tracked"] = s["num_batches_tracked"] + 1
    move(s, "running_mean", mean.flatten().repeat_interleave(c // groups), momentum)
    move(s, "running_var", var.flatten().repeat_interleave(c // groups) * m / (m - 1), momentum)
    return gamma_beta(((grouped - mean) / torch.sqrt(var + eps)).reshape(x.shape), s)


# Qiao et al. 2019
def bcn(x: Tensor, s: State, training: bool, groups: int, eps: float = 1e-5) -> Tensor:
    n, c, h, w = x.shape
    inner = column(s["batch_weight"]) * bn_plain(x, s, training, eps) + column(s["batch_bias"])
    grouped = inner.reshape(n, groups, c // groups, h, w)
    return gamma_beta(standardized(grouped, (2, 3, 4), eps).reshape(x.shape), s)


# Liang et al. 2020
def iebn(x: Tensor, s: State, training: bool, eps: float = 1e-5) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    gate = torch.sigmoid(column(s["scale_weight"]) * mean + column(s["scale_bias"]))
    return gamma_beta(gate * bn_plain(x, s, training, eps), s)


# Pan et al. 2018, IBN-a
def ibn(x: Tensor, s: State, training: bool, share: float = 0.5, eps: float = 1e-5) -> Tensor:
    cut = int(share * x.shape[1])
    instance, batch = standardized(x[:, :cut], (2, 3), eps), bn_plain(x[:, cut:], s, training, eps)
    return gamma_beta(torch.cat([instance, batch], 1), s)


def sparsestmax(z: Tensor, r: float, before: Tensor | None = None) -> Tensor:
    """By its recursion, one face after another."""
    tau = max((sum(sorted(z.tolist())[-k:]) - 1) / k for k in range(1, len(z) + 1))
    inside = [k for k, value in enumerate(z.tolist()) if value > tau]
    p = torch.zeros_like(z)
    p[inside] = z[inside] - (z[inside].sum() - 1) / len(inside)
    u = torch.zeros_like(z)
    u[inside] = 1 / len(inside)
    if before is not None:
        r = max(r**2 - float((u - before).square().sum()), 0) ** 0.5
    distance = (p - u).norm()
    if len(inside) == 1 or distance >= r - 1e-12 or distance == 0:
        return p
    pushed = u + r * (p - u) / distance
    return pushed if pushed.min() >= 0 else sparsestmax(pushed, r, u)


# Shao et al. 2019; all variances biased
def ssn(
    x: Tensor,
    s: State,
    training: bool,
    using: tuple[str, ...] = ("in", "ln", "bn"),
    steps: int | None = None,
    eps: float = 1e-5,
    momentum: float = 0.003,
) -> Tensor:
    over = {"in": (2, 3), "ln": (1, 2, 3), "bn": (0, 2, 3)}
    parts = {k: mean_var(x, over[k]) for k in using}
    if "bn" in using and training:
        move(s, "running_mean", parts["bn"][0], momentum)
        move(s, "running_var", parts["bn"][1], momentum)
    elif "bn" in using:
        parts["bn"] = column(s["running_mean"]), column(s["running_var"])
    radius = min(s["steps_taken"].item() / steps, 1) if steps else 0.0
    mixed = []
    for which, name in enumerate(("mean", "var")):
        p = sparsestmax(s[f"{name}_weight"], radius)
        if s[f"{name}_chosen"].any():
            p = s[f"{name}_chosen"].to(x.dtype)
        elif training and p.max() == 1:
            s[f"{name}_chosen"] = p == 1
        mixed.append(sum(p[k] * part[which] for k, part in enumerate(parts.values())))
    if training:
        s["steps_taken"] = s["steps_taken"] + 1
    return gamma_beta((x - mixed[0]) / (mixed[1] + eps) ** 0.5, s)


# Deecke et al. 2019
def mode(x: Tensor, s: State, training: bool, eps: float = 1e-5, momentum: float = 0.1) -> Tensor:
    gates = (x.mean((2, 3)) @ s["gate_weight"].T + s["gate_bias"]).softmax(1)
    y = torch.zeros_like(x)
    means, squares = [], []
    for k, g in enumerate(gates.T):
        g = g[:, None, None, None]
        running = column(s["running_mean"][k]), column(s["running_var"][k])
        mean, var = running
        if training:
            total = g.sum() * x.shape[2] * x.shape[3]
            mean = (g * x).sum((0, 2, 3), keepdim=True) / total
            var = (g * (x - mean).square()).sum((0, 2, 3), keepdim=True) / total
        means.append((1 - momentum) * running[0] + momentum * mean.detach())
        of_old, of_new = running[1] + running[0].square(), (var + mean.square()).detach()
        squares.append((1 - momentum) * of_old + momentum * of_new)
        y = y + g * (x - mean) / torch.sqrt(var + eps)
    if training:  # E[x] and E[x²] of each mode are averaged
        new = torch.stack(means).view(len(means), -1), torch.stack(squares).view(len(means), -1)
        s["running_mean"], s["running_var"] = new[0], new[1] - new[0].square()
    return gamma_beta(y, s)


class _Substituted(torch.autograd.Function):
    """x → r·x/σ; backward (g − z·ψ)/σ with g·r for g, ψ by `average` from E[g·z]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sigma: Tensor, r: Tensor, average: Any) -> Tensor:
        ctx.save_for_backward(x, sigma, r)
        ctx.average = average
        return r * x / sigma

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, sigma, r = ctx.saved_tensors
        z, g = x / sigma, g * r
        psi = ctx.average("past_slopes", (g * z).mean((0, 2, 3)))
        return (g - z * column(psi)) / sigma, None, None, None


# Yan et al. 2020
def mabn(
    x: Tensor,
    s: State,
    training: bool,
    window: int = 16,
    warmup: int = 100,
    r_max: float = 5.0,
    eps: float = 1e-5,
    momentum: float = 0.02,
) -> Tensor:
    if not training:
        return gamma_beta(x / torch.sqrt(column(s["running_square"]) + eps), s)
    s["num_batches_tracked"] = s["num_batches_tracked"] + 1
    t = s["num_batches_tracked"].item()

    def average(name: str, new: Tensor) -> Tensor:
        s[name] = s[name].clone()
        s[name][t % window] = new.detach()
        return new if t <= window or t < warmup else s[name].mean(0)

    with torch.no_grad():
        var = average("past_squares", x.square().mean((0, 2, 3)))
        r = torch.sqrt((var + eps) / (s["running_square"] + eps)).clamp(1 / r_max, r_max)
        r = r if t > max(1000, warmup) else torch.ones_like(r)
        move(s, "running_square", var, momentum)
    sigma = torch.sqrt(var + eps)
    return gamma_beta(_Substituted.apply(x, column(sigma), column(r), average), s)


# Zhang & Sennrich 2019
def rms(x: Tensor, s: State, training: bool, eps: float = 1e-5) -> Tensor:
    return gamma_beta(x / x.square().mean((1, 2, 3), keepdim=True).add(eps).sqrt(), s)


# Woo et al. 2023, authors' code
def grn(x: Tensor, s: State, training: bool) -> Tensor:
    length = x.flatten(2).norm(dim=2)[..., None, None]
    return x + gamma_beta(x * (length / (length.mean(1, keepdim=True) + 1e-6)), s)


def bn_then_grn(x: Tensor, s: State, training: bool) -> Tensor:
    inner = {key.removeprefix("first."): value for key, value in s.items() if "first." in key}
    y = gamma_beta(bn_plain(x, inner, training), inner)
    s.update({f"first.{key}": value for key, value in inner.items()})
    return grn(y, s, training)


# Liu et al. 2020, authors' code
def evonorm_s0(x: Tensor, s: State, training: bool, groups: int, eps: float = 1e-5) -> Tensor:
    n, c, h, w = x.shape
    var = mean_var(x.reshape(n, groups, c // groups, h, w), (2, 3, 4))[1]
    std = torch.sqrt(var + eps).expand(n, groups, c // groups, 1, 1).reshape(n, c, 1, 1)
    return gamma_beta(x * torch.sigmoid(column(s["v"]) * x) / std, s)


def evonorm_b0(
    x: Tensor, s: State, training: bool, eps: float = 1e-5, momentum: float = 0.1
) -> Tensor:
    var = column(s["running_var"])
    if training:
        var = mean_var(x, (0, 2, 3))[1]
        move(s, "running_var", var, momentum)
    right = column(s["v"]) * x + torch.sqrt(mean_var(x, (2, 3))[1] + eps)
    return gamma_beta(x / torch.maximum(torch.sqrt(var + eps).expand_as(x), right), s)


# Zhu et al. 2025
def dyt(x: Tensor, s: State, training: bool) -> Tensor:
    return gamma_beta(torch.tanh(s["steepness"] * x), s)


# Liu et al. 2022, authors' code; Li et al. 2019
def ln2d(x: Tensor, s: State, training: bool) -> Tensor:
    return gamma_beta(standardized(x, (1,), 1e-6), s)


def pono(x: Tensor, s: State, training: bool) -> Tensor:
    return standardized(x, (1,), 1e-5)


def whitened(
    x: Tensor, s: State, training: bool, size: int, momentum: float, inverse_root: Any
) -> Tensor:
    n, c, h, w = x.shape
    vectors = x.transpose(0, 1).reshape(c // size, size, n * h * w)
    mean, matrix = s["running_mean"].view(-1, size, 1), s["running_matrix"]
    if training:
        mean = vectors.mean(2, keepdim=True)
        matrix = inverse_root((vectors - mean) @ (vectors - mean).mT / (n * h * w))
        move(s, "running_mean", mean, momentum)
        s["running_matrix"] = (1 - momentum) * s["running_matrix"] + momentum * matrix.detach()
    y = (matrix @ (vectors - mean)).reshape(c, n, h, w).transpose(0, 1)
    return gamma_beta(y, s)


# Huang et al. 2019, algorithm 1
def iternorm(
    x: Tensor, s: State, training: bool, channels_per_group: int, iterations: int = 5
) -> Tensor:
    def root(cov: Tensor) -> Tensor:
        cov = cov + 1e-5 * torch.eye(cov.shape[-1], dtype=cov.dtype)
        trace = torch.einsum("gii->g", cov)[:, None, None]
        p = torch.eye(cov.shape[-1], dtype=cov.dtype).expand_as(cov)
        for _ in range(iterations):
            p = (3 * p - torch.matrix_power(p, 3) @ cov / trace) / 2
        return p / trace.sqrt()

    return whitened(x, s, training, channels_per_group, 0.1, root)


# Huang et al. 2018, with the ε of the later code
def dbn(x: Tensor, s: State, training: bool, channels_per_group: int) -> Tensor:
    def root(cov: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(cov + 1e-3 * torch.eye(cov.shape[-1], dtype=cov.dtype))
        return vectors @ torch.diag_embed(values**-0.5) @ vectors.mT

    return whitened(x, s, training, channels_per_group, 0.1, root)
