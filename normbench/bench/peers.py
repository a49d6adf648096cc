"""What ours is measured against: torch's own layers, timm's, and formulas in plain torch.

`plain` is what a user of public code runs: the paper's formula, line by line, for the norms that
torch lacks. All see the whole batch as one worker's, in training, with the norm's own activation.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.errors import UserError
from normbench.norms import create_norm, norm_class

PEERS = ("torch", "timm", "plain")
BASELINE = "torch BatchNorm2d + ReLU"


def baseline(channels: int, activated: bool = True) -> nn.Module:
    """What every ratio is taken to; without ReLU where the network has none."""
    return with_relu(nn.BatchNorm2d(channels), activated)


def with_relu(norm: nn.Module, activated: bool) -> nn.Module:
    return nn.Sequential(norm, nn.ReLU(inplace=True)) if activated else norm


def peer(kind: str, norm: str, channels: int, activated: bool = True) -> nn.Module | None:
    """The layer of `kind` that computes `norm`, with its own activation or none; None: there is none."""
    if kind == "torch":
        return with_relu(TORCH[norm](channels), activated) if norm in TORCH else None
    if kind == "timm":
        return of_timm(norm, channels, activated)
    return Plain(norm, channels, activated) if norm in FORMULAS else None


def joint(norm: str, channels: int) -> nn.Module:
    """The activation after an addition, in plain torch: TLU where that is the norm's own, else ReLU."""
    auto = getattr(norm_class(norm), "auto_activation", "relu")
    return PlainTLU(channels) if auto == "tlu" else nn.ReLU(inplace=True)


class PlainTLU(nn.Module):
    """Singh & Krishnan 2020, eq. 5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, column(self.tau.to(x.dtype)))


TORCH: dict[str, Callable[[int], nn.Module]] = {
    "ln": lambda c: nn.GroupNorm(1, c),
    "in": lambda c: nn.InstanceNorm2d(c, affine=True),
    "gn": lambda c: nn.GroupNorm(groups(c), c),
}


def groups(channels: int) -> int:
    """The groups of GN here: 8, as in conf/norm/gn.yaml, or fewer where they do not divide."""
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)


def of_timm(norm: str, channels: int, activated: bool) -> nn.Module | None:
    try:
        layers: Any = importlib.import_module("timm.layers")
    except ImportError:
        raise UserError("peers=timm: timm is not installed; pip install normbench[timm]") from None
    built: dict[str, Callable[[], nn.Module]] = {
        "bn": lambda: layers.BatchNormAct2d(channels, apply_act=activated),
        "gn": lambda: layers.GroupNormAct(channels, groups(channels), apply_act=activated),
        "frn": lambda: layers.FilterResponseNormTlu2d(channels, apply_act=activated),
    }
    return built[norm]() if norm in built else None


class Plain(nn.Module):
    """The formula of a norm, on parameters and buffers of the same names as ours."""

    def __init__(self, norm: str, channels: int, activated: bool) -> None:
        super().__init__()
        ours = create_norm(norm, channels, activation="auto" if activated else "none")
        for name, parameter in ours.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone()))
        for name, buffer in ours.named_buffers():
            self.register_buffer(name, buffer.clone())
        self.formula, self.activated = FORMULAS[norm], activated

    def forward(self, x: Tensor) -> Tensor:
        z = column(self.weight) * self.formula(self, x) + column(self.bias)
        z = z.to(x.dtype)
        if not self.activated:
            return z
        tau = self._parameters.get("tau")
        return F.relu(z) if tau is None else torch.maximum(z, column(tau.to(x.dtype)))


def column(v: Tensor | nn.Module) -> Tensor:
    assert isinstance(v, Tensor)
    return v[:, None, None]


def batch_norm(s: Plain, x: Tensor) -> Tensor:
    return F.batch_norm(x, s.running_mean, s.running_var, training=True)  # type: ignore[arg-type]


def frn(s: Plain, x: Tensor) -> Tensor:
    """Singh & Krishnan 2020, eq. 1 and 2."""
    return x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 1e-6)


def sn(s: Plain, x: Tensor) -> Tensor:
    """Luo et al. 2019, eq. 3 and 5, the moments of LN and BN from those of IN."""
    var_in, mean_in = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    square = var_in + mean_in.square()
    mean_ln, mean_bn = mean_in.mean(1, keepdim=True), mean_in.mean(0, keepdim=True)
    var_ln = square.mean(1, keepdim=True) - mean_ln.square()
    var_bn = square.mean(0, keepdim=True) - mean_bn.square()
    with torch.no_grad():
        s.running_mean.lerp_(mean_bn.flatten(), 0.1)  # type: ignore[operator]
        s.running_var.lerp_(var_bn.flatten(), 0.1)  # type: ignore[operator]
    a, b = s.mean_weight.softmax(0), s.var_weight.softmax(0)  # type: ignore[operator]
    mean = a[0] * mean_in + a[1] * mean_ln + a[2] * mean_bn
    var = b[0] * var_in + b[1] * var_ln + b[2] * var_bn
    return (x - mean) * torch.rsqrt(var + 1e-5)


def rbn(s: Plain, x: Tensor) -> Tensor:
    """Gao et al. 2021, eq. 2 to 7."""
    x = x + column(s.center_weight) * x.mean((2, 3), keepdim=True)
    z = batch_norm(s, x)
    k = z.mean((2, 3), keepdim=True)
    return z * torch.sigmoid(column(s.scale_weight) * k + column(s.scale_bias))


def bin_(s: Plain, x: Tensor) -> Tensor:
    """Nam & Kim 2018, eq. 4."""
    gate = column(s.gate)
    return gate * batch_norm(s, x) + (1 - gate) * F.instance_norm(x)


def brn(s: Plain, x: Tensor) -> Tensor:
    """Ioffe 2017, algorithm 1, with r up to 3 and d up to 5 from the first step."""
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    std = (var + 1e-3).sqrt()
    running_mean, running_std = s.running_mean, s.running_std
    assert isinstance(running_mean, Tensor) and isinstance(running_std, Tensor)
    with torch.no_grad():
        r = (std / running_std).clamp(1 / 3, 3)
        d = ((mean - running_mean) / running_std).clamp(-5, 5)
        running_mean.lerp_(mean, 0.01)
        running_std.lerp_(std, 0.01)
    return (x - column(mean)) / column(std) * column(r) + column(d)


FORMULAS: dict[str, Callable[[Plain, Tensor], Tensor]] = {
    "frn": frn, "sn": sn, "rbn": rbn, "bin": bin_, "brn": brn,
}  # fmt: skip
