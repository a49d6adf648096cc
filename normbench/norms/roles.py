"""How the parameters of a norm are trained, which each norm says of its own."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Role:
    """How a parameter is trained: with weight decay or not, at which multiple of the learning rate,
    and into which interval it is projected after each step."""

    decay: bool = True
    lr_multiplier: float = 1.0
    interval: tuple[float, float] | None = None


def project_own(module: nn.Module) -> None:
    """Puts a module's own parameters into the intervals that its `roles`, if any, declare."""
    for name, role in getattr(module, "roles", {}).items():
        parameter = getattr(module, name, None)
        if parameter is not None and role.interval is not None:
            parameter.data.clamp_(*role.interval)
