"""ResNet: the published sizes, the block against its formula, the start as the identity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from normbench.errors import UserError
from normbench.models import create_model
from normbench.models.layers import Conv
from normbench.models.resnet import BasicBlock
from normbench.models.shortcut import padded

from .factories import BatchNorms, OddNorms

SIZES = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


def counted(blocks: int) -> int:
    """Parameters by hand: convolutions, weight and bias of each norm, the classifier."""
    stem = 3 * 16 * 9 + 2 * 16
    total = stem + 64 * 10 + 10
    channels_in = 16
    for channels in (16, 32, 64):
        for _ in range(blocks):
            total += 9 * (channels_in * channels + channels * channels) + 4 * channels
            channels_in = channels
    return total


@pytest.mark.parametrize("depth", [8, *SIZES])
def test_published_parameter_counts(depth: int, norms: BatchNorms) -> None:
    with torch.device("meta"):
        net = create_model("resnet", norms, classes=10, depth=depth)
    total = sum(p.numel() for p in net.parameters())
    assert total == counted((depth - 2) // 6) == SIZES.get(depth, total)
    assert sum(isinstance(m, Conv) for m in net.modules()) + 1 == depth


def test_what_the_factory_is_asked_for(norms: BatchNorms) -> None:
    create_model("resnet", norms, classes=10, depth=14)
    blocks = [(c, a, s) for s, c in ((1, 16), (2, 32), (3, 64)) for a in (True, False) * 2]
    assert norms.norms == [(16, True, 0), *blocks]
    assert norms.joints == [16, 16, 32, 32, 64, 64]


def test_resolutions(norms: BatchNorms) -> None:
    net = create_model("resnet", norms, classes=10, depth=8)
    x = net.stem(torch.randn(2, 3, 32, 32))
    shapes = []
    for block in net.stages:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize(("channels", "stride", "size"), [(4, 1, 6), (10, 2, 6), (10, 2, 7)])
def test_block_is_its_formula(channels: int, stride: int, size: int, norms: BatchNorms) -> None:
    torch.manual_seed(0)
    block: Any = BasicBlock(norms, 4, channels, stride, 1, padded(4, channels, stride))
    for norm in (block.norm1, block.norm2):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 4, size, size)

    def normalized(y: torch.Tensor, norm: Any) -> torch.Tensor:
        return functional.batch_norm(y, None, None, norm.weight, norm.bias, training=True)

    y = functional.conv2d(x, block.conv1.weight, stride=stride, padding=1)
    y = functional.relu(normalized(y, block.norm1))
    y = normalized(functional.conv2d(y, block.conv2.weight, padding=1), block.norm2)
    shortcut = torch.zeros_like(y)
    shortcut[:, :4] = x[:, :, ::stride, ::stride]
    torch.testing.assert_close(block(x), functional.relu(y + shortcut))


def test_zero_init_last_starts_each_block_as_its_shortcut(norms: BatchNorms) -> None:
    net = create_model("resnet", norms, classes=10, depth=14, zero_init_last=True)
    x = torch.relu(torch.randn(2, 16, 16, 16))
    for block in net.stages:
        y = block(x)
        assert torch.equal(y, block.shortcut(x))
        assert y.abs().max() > 0
        assert (block.norm1.weight == 1).all()
        x = y
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(block.norm2.weight.grad.abs().max() > 0 for block in net.stages)


def test_without_zero_init_last_the_branches_live(norms: BatchNorms) -> None:
    net = create_model("resnet", norms, classes=10, depth=8)
    assert all((block.norm2.weight == 1).all() for block in net.stages)


def test_zero_init_last_needs_a_weight(odd_norms: OddNorms) -> None:
    with pytest.raises(UserError, match=r"^zero_init_last=true: .*none; .*zero_init_last=false$"):
        create_model("resnet", odd_norms, classes=10, depth=8, zero_init_last=True)


@pytest.mark.parametrize("value", ["no", 1, None])
def test_zero_init_last_is_true_or_false(value: object, norms: BatchNorms) -> None:
    with pytest.raises(UserError, match=r"^zero_init_last=.*: must be true or false$"):
        create_model("resnet", norms, classes=10, depth=8, zero_init_last=value)
