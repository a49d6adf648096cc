"""The norms of the papers behind one function, and the factory that the networks take."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from normbench.errors import UserError, did_you_mean
from normbench.norms.activation import Activation
from normbench.norms.base import BatchStatistics, Norm, PlaneNorm, Role, pure, pure_by_image
from normbench.norms.batch import BatchNorm
from normbench.norms.batch_instance import BatchInstanceNorm
from normbench.norms.filter_response import (
    FilterResponseNorm,
    GroupFilterResponseNorm,
    LayerFilterResponseNorm,
)
from normbench.norms.group import GroupNorm, InstanceNorm, LayerNorm
from normbench.norms.neighbourhood import DivisiveNorm, LocalResponseNorm
from normbench.norms.none import NoNorm
from normbench.norms.plane import (
    Affine,
    Moments,
    blend,
    divide_by_rms,
    mixture,
    pool,
    standardize,
)
from normbench.norms.renorm import BatchRenorm
from normbench.norms.representative import RepresentativeBatchNorm
from normbench.norms.switchable import SwitchableNorm

__all__ = [
    "NORMS", "Affine", "BatchStatistics", "Moments", "Norm", "NormFactory", "PlaneNorm", "Role",
    "blend", "create_norm", "divide_by_rms", "mixture", "norm_class", "options_of", "pool",
    "pure", "pure_by_image", "standardize",
]  # fmt: skip

NORMS: dict[str, Callable[..., nn.Module]] = {
    "none": NoNorm,
    "bn": BatchNorm,
    "ln": LayerNorm,
    "in": InstanceNorm,
    "gn": GroupNorm,
    "frn": FilterResponseNorm,
    "gfrn": GroupFilterResponseNorm,
    "lfrn": LayerFilterResponseNorm,
    "sn": SwitchableNorm,
    "rbn": RepresentativeBatchNorm,
    "bin": BatchInstanceNorm,
    "brn": BatchRenorm,
    "lrn": LocalResponseNorm,
    "dn": DivisiveNorm,
}


class OptionError(UserError, TypeError):
    """An option that the norm does not have."""


def create_norm(
    name: str,
    channels: int,
    *,
    activation: str = "none",
    images: int | None = None,
    **options: Any,
) -> nn.Module:
    """The norm `name`: a module from [N, channels, H, W] to the same shape.

    activation: none, relu, tlu, affine_tlu, prelu, or auto (TLU for the FRN family, else ReLU).
    images: images per worker, over which batch statistics are pooled in training (None: the whole
    batch). options: the norm's own. name="custom" with target="module.Class" takes a class of one's
    own with this signature.

    Raises UserError for an unknown name, OptionError (a TypeError) for an option it does not have.
    """
    target = options.pop("target", None) if name == "custom" else None
    build = norm_class(name, target)
    known = options_of(build)
    for option in options:
        if option not in known:
            raise OptionError(
                f"norm {name} has no option {option!r}; it has {', '.join(known) or 'none'}"
                + did_you_mean(option, known)
            )
    if activation == "auto":
        activation = auto_activation(build)
    return build(channels, activation=activation, images=images, **options)


def norm_class(name: str, target: str | None = None) -> Callable[..., nn.Module]:
    """The class behind a name, or behind module.Class for "custom"."""
    if name == "custom":
        return load(target)
    if name not in NORMS:
        raise UserError(
            f"no norm is called {name!r}; there are {', '.join([*NORMS, 'custom'])}"
            + did_you_mean(name, NORMS)
        )
    return NORMS[name]


def load(target: str | None) -> Callable[..., nn.Module]:
    """The class that `module.Class` names, the working folder included in the search."""
    module, _, attribute = (target or "").rpartition(".")
    if not module:
        raise UserError(f"norm.target={target!r} must be module.Class, such as my_module.MyNorm")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"norm.target={target!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"norm.target={target!r} is not a class of torch.nn.Module")
    return found


def options_of(build: Callable[..., nn.Module]) -> dict[str, inspect.Parameter]:
    """The options of a norm's own, beside channels, activation and images."""
    try:
        signature = inspect.signature(build, eval_str=True)
    except NameError:  # annotations that a user's module imports for the type checker alone
        signature = inspect.signature(build)
    given = ("channels", "activation", "images")
    own = {key: p for key, p in signature.parameters.items() if key not in given}
    return {key: p for key, p in own.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def auto_activation(build: Callable[..., nn.Module]) -> str:
    return str(getattr(build, "auto_activation", "relu"))


@dataclass(frozen=True)
class NormFactory:
    """What a network asks for its norms: `norm(channels)`, with the run's activation or without.

    stages: the stages of the network that get this norm (None: all); the others get `elsewhere`.
    """

    name: str
    chosen: str = "auto"  # the activation
    images: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    stages: tuple[int, ...] | None = None
    elsewhere: str = "bn"

    def __call__(self, channels: int, activated: bool = True, stage: int = 0) -> nn.Module:
        activation = self.activation_name() if activated else "none"
        if self.stages is not None and stage not in self.stages:
            return create_norm(self.elsewhere, channels, activation=activation, images=self.images)
        return create_norm(
            self.name, channels, activation=activation, images=self.images, **self.options
        )

    def activation(self, channels: int) -> nn.Module:
        return Activation(channels, self.activation_name())

    def activation_name(self) -> str:
        """The activation with "auto" answered."""
        if self.chosen != "auto":
            return self.chosen
        return auto_activation(norm_class(self.name, self.options.get("target")))
