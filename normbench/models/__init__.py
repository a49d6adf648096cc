"""The networks. They take a norm factory and never import a norm."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from normbench.errors import UserError, did_you_mean
from normbench.models.factory import NormFactory
from normbench.models.imagenet import ImageNetPreResNet, ImageNetResNet
from normbench.models.layers import initialize
from normbench.models.preresnet import PreResNet
from normbench.models.resnet import ResNet
from normbench.models.vgg import VGG
from normbench.models.wrn import WideResNet

__all__ = ["MODELS", "NormFactory", "create_model", "model_options"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet": ResNet,
    "preresnet": PreResNet,
    "wrn": WideResNet,
    "vgg": VGG,
    "imagenet_resnet": ImageNetResNet,
    "imagenet_preresnet": ImageNetPreResNet,
}
_GIVEN = ("norm", "classes")  # what `create_model` itself passes to a builder


def create_model(
    name: str,
    norm: NormFactory,
    *,
    classes: int,
    generator: torch.Generator | None = None,
    **options: Any,
) -> nn.Module:
    """A network of `MODELS`, [N, 3, H, W] -> [N, classes], with freshly drawn weights.

    The weights come from `generator` (None: torch's own) and do not depend on the norm: see
    `layers.initialize`. Unknown name or bad value: `UserError`. Unknown option: `TypeError`.
    """
    allowed = model_options(name)
    for word in options:
        if word not in allowed:
            hint = did_you_mean(word, allowed)
            raise TypeError(f"{name} has no option {word!r}: it has {', '.join(allowed)}{hint}")
    net = MODELS[name](norm, classes=classes, **options)
    initialize(net, generator)
    return net


def model_options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a network's own. Unknown name: `UserError`."""
    if name not in MODELS:
        hint = did_you_mean(name, MODELS)
        raise UserError(f"model {name!r}: must be one of {', '.join(MODELS)}{hint}")
    parameters = inspect.signature(MODELS[name], eval_str=True).parameters
    return {word: parameter for word, parameter in parameters.items() if word not in _GIVEN}
