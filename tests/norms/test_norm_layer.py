"""norm_layer: networks of torchvision and timm are built with our norms, and train a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from normbench import norm_layer
from normbench.errors import UserError
from normbench.norms import Norm

TORCHVISION = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "regnet_y_400mf",
]
TIMM = {  # whether its layers are norm and activation in one
    "resnet18": False,
    "convnext_atto": False,
    "efficientnet_b0": True,
    "resnetv2_50": True,
    "regnetx_002": True,
}


def trains(network: nn.Module) -> None:
    """A forward and a backward pass reach every parameter; batch norms of the library are gone."""
    assert any(isinstance(module, Norm) for module in network.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    loss = network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).square()
    loss.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_of_torchvision(name: str) -> None:
    from torchvision import models

    build: Callable[..., nn.Module] = models.get_model
    trains(build(name, num_classes=10, norm_layer=norm_layer("frn", learned_eps=True)))


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    more: dict[str, Any] = {"conv_mlp": True} if "convnext" in name else {}
    activation = "auto" if TIMM[name] else "none"
    layer = norm_layer("frn", activation=activation, learned_eps=True)
    network = timm.create_model(name, num_classes=10, norm_layer=layer, **more)
    trains(network)
    thresholds = [m for m in network.modules() if isinstance(m, Norm) and m.tau is not None]
    assert bool(thresholds) == TIMM[name]


def test_an_activation_that_nobody_brings_is_told() -> None:
    with pytest.raises(UserError, match=r'norm_layer\(\'gn\', activation="auto"\)'):
        norm_layer("gn", groups=2)(8, apply_act=True)
    assert isinstance(norm_layer("gn", groups=2)(8, apply_act=False), Norm)
    with pytest.raises(UserError, match="no norm is called 'frm'"):
        norm_layer("frm")
