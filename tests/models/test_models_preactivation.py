"""The pre-activation networks: sizes, norms and stages, the block against its formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from normbench.models import create_model
from normbench.models.layers import Conv
from normbench.models.preresnet import PreActivationBlock
from normbench.models.shortcut import padded, projected

from .factories import BatchNorms


def counted(blocks: int, widths: tuple[int, int, int], projections: bool) -> int:
    """Parameters by hand: a norm stands before each convolution of a block, and one at the end."""
    total = 3 * 16 * 9 + 2 * widths[-1] + widths[-1] * 10 + 10
    channels_in = 16
    for channels in widths:
        for _ in range(blocks):
            total += 2 * channels_in + 9 * channels_in * channels
            total += 2 * channels + 9 * channels * channels
            if projections and channels_in != channels:
                total += channels_in * channels
            channels_in = channels
    return total


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56, 110])
def test_sizes_of_preresnet(depth: int, norms: BatchNorms) -> None:
    with torch.device("meta"):
        net = create_model("preresnet", norms, classes=10, depth=depth)
    blocks = (depth - 2) // 6
    assert sum(p.numel() for p in net.parameters()) == counted(blocks, (16, 32, 64), False)
    assert sum(isinstance(m, Conv) for m in net.modules()) + 1 == depth
    assert len(norms.norms) == 6 * blocks + 1


PUBLISHED = {(16, 8): 11.0, (22, 8): 17.2, (28, 10): 36.5, (28, 12): 52.5, (40, 2): 2.2}


@pytest.mark.parametrize(("depth", "width"), PUBLISHED)
def test_published_sizes_of_wrn(depth: int, width: int, norms: BatchNorms) -> None:
    with torch.device("meta"):
        net = create_model("wrn", norms, classes=10, depth=depth, width=width)
    total = sum(p.numel() for p in net.parameters())
    widths = (16 * width, 32 * width, 64 * width)
    assert total == counted((depth - 4) // 6, widths, True)
    assert round(total / 1e6, 1) == PUBLISHED[depth, width]
    assert sum(isinstance(m, Conv) for m in net.modules()) == depth
    if (depth, width) == (28, 10):
        assert total == 36_479_194


def test_what_the_factory_is_asked_for(norms: BatchNorms) -> None:
    create_model("preresnet", norms, classes=10, depth=14)
    stages = {1: (16, 16, 16, 16), 2: (16, 32, 32, 32), 3: (32, 64, 64, 64, 64)}
    assert norms.norms == [(c, True, s) for s, channels in stages.items() for c in channels]
    assert norms.joints == []


@pytest.mark.parametrize("shortcut", [padded, projected])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (10, 2)])
def test_block_is_its_formula(
    channels: int,
    stride: int,
    shared: bool,
    shortcut: Callable[[int, int, int], nn.Module],
    norms: BatchNorms,
) -> None:
    torch.manual_seed(0)
    joint = shortcut(4, channels, stride)
    block: Any = PreActivationBlock(norms, 4, channels, stride, 1, joint, shared)
    x = torch.randn(3, 4, 7, 7)

    def activated(y: torch.Tensor) -> torch.Tensor:
        return functional.relu(functional.batch_norm(y, None, None, training=True))

    first = activated(x)
    y = functional.conv2d(first, block.conv1.weight, stride=stride, padding=1)
    y = functional.conv2d(activated(y), block.conv2.weight, padding=1)
    added = first if shared else x
    if shortcut is projected and stride == 2:
        added = functional.conv2d(added, block.shortcut.weight, stride=2)
    elif stride == 2:
        added = torch.cat([added[:, :, ::2, ::2], added.new_zeros(3, 6, 4, 4)], dim=1)
    torch.testing.assert_close(block(x), y + added)


@pytest.mark.parametrize(("name", "depth"), [("preresnet", 20), ("wrn", 22)])
def test_the_first_block_of_each_stage_shares_its_activation(
    name: str, depth: int, norms: BatchNorms
) -> None:
    with torch.device("meta"):
        net = create_model(name, norms, classes=10, depth=depth)
    assert [block.shared for block in net.stages] == [True, False, False] * 3


def test_the_last_norm_stands_before_the_pool(norms: BatchNorms) -> None:
    net = create_model("preresnet", norms, classes=10, depth=8).eval()
    seen = []
    net.classifier.register_forward_hook(lambda _m, args, _out: seen.append(args[0]))
    x = torch.randn(2, 3, 16, 16)
    y = net(x)
    inner = functional.relu(functional.batch_norm(net.stages(net.stem(x)), *running(net)))
    torch.testing.assert_close(seen[0], inner)
    torch.testing.assert_close(y, inner.mean((2, 3)) @ net.classifier.weight.T)


def running(net: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return net.last_norm.running_mean, net.last_norm.running_var


def test_zero_init_last_is_not_offered_because_the_branch_would_stay_dead(
    norms: BatchNorms,
) -> None:
    with pytest.raises(TypeError, match=r"preresnet has no option 'zero_init_last': it has depth$"):
        create_model("preresnet", norms, classes=10, zero_init_last=True)
    net = create_model("preresnet", norms, classes=10, depth=8)
    for block in net.stages:
        torch.nn.init.zeros_(block.norm2.weight)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    for block in net.stages:
        for dead in (block.norm2.weight, block.norm2.bias, block.conv1.weight, block.conv2.weight):
            assert (dead.grad == 0).all()
