"""Where torch has the layer, ours is that layer: output, gradients, buffers, evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normbench import create_norm

from ..cases import each
from .table import CHANNELS, close, gradients, images, outcome, perturbed

PAIRS = [
    pytest.param("bn", {}, nn.BatchNorm2d(CHANNELS), id="bn"),
    pytest.param(
        "bn", {"eps": 1e-3, "momentum": 0.4}, nn.BatchNorm2d(CHANNELS, 1e-3, 0.4), id="bn-options"
    ),
    pytest.param(
        "bn", {"momentum": None}, nn.BatchNorm2d(CHANNELS, momentum=None), id="bn-cumulative"
    ),
    pytest.param("in", {}, nn.InstanceNorm2d(CHANNELS, affine=True), id="in"),
    pytest.param("gn", {"groups": 2}, nn.GroupNorm(2, CHANNELS), id="gn"),
    pytest.param("gn", {"channels_per_group": 2}, nn.GroupNorm(3, CHANNELS), id="gn-size"),
    pytest.param("ln", {"eps": 1e-4}, nn.GroupNorm(1, CHANNELS, eps=1e-4), id="ln"),
]


def floats(norm: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in norm.state_dict().items()}


@pytest.mark.parametrize(("name", "options", "torchs"), PAIRS)
def test_as_torchs_layer_over_steps_and_in_evaluation(
    name: str, options: dict[str, Any], torchs: nn.Module
) -> None:
    ours = perturbed(create_norm(name, CHANNELS, **options).double())
    torchs = torchs.double().train()
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    torchs.load_state_dict(ours.state_dict())
    for seed in range(4):
        close(outcome(ours, images(seed=seed)), outcome(torchs, images(seed=seed)))
        close(floats(ours), floats(torchs))
    ours.eval()
    torchs.eval()
    close(outcome(ours, images(seed=7)), outcome(torchs, images(seed=7)))
    close(floats(ours), floats(torchs))


@pytest.mark.parametrize(("name", "options", "torchs"), PAIRS)
def test_as_torchs_layer_followed_by_relu_in_float32(
    name: str, options: dict[str, Any], torchs: nn.Module
) -> None:
    ours = perturbed(create_norm(name, CHANNELS, activation="relu", **options))
    torchs = torchs.float().train()
    torchs.load_state_dict(ours.state_dict())
    x = images(dtype=torch.float32)
    close(outcome(ours, x), outcome(nn.Sequential(torchs, nn.ReLU()), x), tolerance=1e-5)


@each("options", [{}, {"size": 3}, {"size": 4, "alpha": 0.3, "beta": 0.5, "k": 1.5}])
def test_lrn_is_torchs_with_alexnets_constants(options: dict[str, Any]) -> None:
    alexnet = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}
    ours = create_norm("lrn", CHANNELS, **options).double()
    x = images().requires_grad_()
    y, expected = ours(x), nn.LocalResponseNorm(**(alexnet | options))(x)
    close(y, expected)
    close(gradients(y, [x]), gradients(expected, [x]))


def test_prelu_is_torchs() -> None:
    ours, torchs = create_norm("none", CHANNELS, activation="prelu").double(), nn.PReLU(CHANNELS)
    torchs = torchs.double()
    (y, gx, galpha, _), (expected, *others) = outcome(ours, images()), outcome(torchs, images())
    close([y, gx, galpha], [expected, *others])
