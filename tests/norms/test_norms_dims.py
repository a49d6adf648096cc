"""Planes of one dimension and of three: [N, C, L] and [N, C, D, H, W]."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normbench import create_norm, ops
from normbench.errors import UserError

from ..cases import each
from .table import CHANNELS, ROWS, Row, close, gradients, images, outcome, perturbed

SHAPES = {1: (30,), 3: (2, 3, 5)}
LAYERS = {
    "bn": {1: nn.BatchNorm1d(CHANNELS), 3: nn.BatchNorm3d(CHANNELS)},
    "in": {
        1: nn.InstanceNorm1d(CHANNELS, affine=True),
        3: nn.InstanceNorm3d(CHANNELS, affine=True),
    },
    "gn": dict.fromkeys(SHAPES, nn.GroupNorm(2, CHANNELS)),
    "ln": dict.fromkeys(SHAPES, nn.GroupNorm(1, CHANNELS)),
}


def planes(dims: int, seed: int = 0) -> Tensor:
    return images(height=3, width=10, seed=seed).reshape(4, CHANNELS, *SHAPES[dims])


@each("dtype", [torch.float64, torch.float32])
@each("backend", ["eager", "cpu"])
@each("dims", SHAPES)
@each("name", LAYERS)
def test_as_torchs_layer(name: str, dims: int, backend: str, dtype: torch.dtype) -> None:
    """Output and gradients over steps, running statistics, evaluation."""
    options: dict[str, Any] = {"groups": 2} if name == "gn" else {}
    ours = perturbed(create_norm(name, CHANNELS, **options)).to(dtype)
    theirs = LAYERS[name][dims].to(dtype).train()
    theirs.load_state_dict(ours.state_dict())
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    with ops.use(backend):
        for seed in range(2):
            x = planes(dims, seed).to(dtype)
            close(outcome(ours, x), outcome(theirs, x), tolerance)
        close(dict(ours.state_dict()), dict(theirs.state_dict()), tolerance)
        x = planes(dims, seed=2).to(dtype)
        close(outcome(ours.eval(), x), outcome(theirs.eval(), x), tolerance)


@each("dims", SHAPES)
@each("row", [row for row in ROWS if row.norm != "custom"])
def test_every_norm_sees_planes_alone(row: Row, dims: int) -> None:
    """As of the same numbers in [N, C, H, W]; but for a norm whose window is one of pixels."""
    norm, x = perturbed(row.create(activation="relu")), planes(dims).contiguous().requires_grad_()
    if row.norm == "dn":
        with pytest.raises(UserError, match=r"it takes \[N, 6, H, W\]$"):
            norm(x)
        return
    other = copy.deepcopy(norm)
    y, flat = norm(x), other(x.reshape(4, CHANNELS, 3, -1)).reshape(x.shape)
    close(y, flat)
    close(gradients(y, [x]), gradients(flat, [x]))
    close(dict(norm.state_dict()), dict(other.state_dict()))


def test_channels_last_3d_stays() -> None:
    x = planes(3).float().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    y = create_norm("bn", CHANNELS, activation="relu")(x)
    (g,) = torch.autograd.grad(y.square().sum(), x)
    for t in (y, g):
        assert t.is_contiguous(memory_format=torch.channels_last_3d)
