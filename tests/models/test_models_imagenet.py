"""ImageNet's ResNets: published sizes, torchvision's and timm's outputs, the blocks' formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from normbench.errors import UserError
from normbench.models import create_model
from normbench.models.bottleneck import Bottleneck, PreActivationBottleneck
from normbench.models.layers import Conv
from normbench.models.shortcut import normalized, projected
from normbench.norms import NormFactory

from .factories import BatchNorms, OddNorms

PUBLISHED = {  # torchvision's documentation, 1000 classes
    18: 11_689_512,
    34: 21_797_672,
    50: 25_557_032,
    101: 44_549_160,
    152: 60_192_808,
}
STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_published_parameter_counts(depth: int, norms: BatchNorms) -> None:
    with torch.device("meta"):
        net = create_model("imagenet_resnet", norms, classes=1000, depth=depth)
        assert net(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[depth]
    counted = [m for n, m in net.named_modules() if isinstance(m, Conv) and "shortcut" not in n]
    assert len(counted) + 1 == depth


@pytest.mark.parametrize("depth", STAGES)
def test_parameter_counts_before_the_activation(depth: int, norms: BatchNorms) -> None:
    """By hand: a norm stands before each convolution of a block, and one at the end."""
    total, channels_in = 3 * 64 * 49 + 2 * 2048 + 2048 * 1000 + 1000, 64
    for width, blocks in zip((64, 128, 256, 512), STAGES[depth], strict=True):
        total += channels_in * 4 * width  # the first shortcut
        for _ in range(blocks):
            total += (channels_in + 9 * width + 4 * width) * width
            total += 2 * (channels_in + width + width)
            channels_in = 4 * width
    with torch.device("meta"):
        net = create_model("imagenet_preresnet", norms, classes=1000, depth=depth)
        assert net(torch.empty(2, 3, 299, 299)).shape == (2, 1000)
    assert sum(p.numel() for p in net.parameters()) == total
    if depth == 50:
        assert total == 25_549_352  # as timm's resnetv2_50


def filled(ours: nn.Module, theirs: nn.Module, rename: Callable[[str], str]) -> nn.Module:
    """Our network with the weights and statistics of theirs, all moved from their start."""
    generator = torch.Generator().manual_seed(0)
    for key, tensor in theirs.state_dict().items():
        if key.endswith("running_var") or (tensor.dim() == 1 and key.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.dim() == 1:
            tensor.uniform_(-0.5, 0.5, generator=generator)
    state = {rename(key): tensor for key, tensor in theirs.state_dict().items()}
    own = ours.state_dict()  # timm's last layer is a 1x1 convolution
    ours.load_state_dict({key: tensor.reshape(own[key].shape) for key, tensor in state.items()})
    return ours


def of_torchvision(key: str, blocks: tuple[int, ...]) -> str:
    """Our name of torchvision's parameter: layer2.0.bn1.weight -> stages.3.norm1.weight."""
    first, _, rest = key.partition(".")
    if not first.startswith("layer"):
        return {"conv1": "stem", "bn1": "stem_norm", "fc": "classifier"}[first] + f".{rest}"
    index, _, rest = rest.partition(".")
    place = sum(blocks[: int(first[-1]) - 1]) + int(index)
    rest = rest.replace("downsample", "shortcut").replace("bn", "norm")
    return f"stages.{place}.{rest}"


def of_timm(key: str, blocks: tuple[int, ...]) -> str:
    """Our name of timm's parameter: stages.1.blocks.0.norm1.weight -> stages.3.norm1.weight."""
    key = key.replace("stem.conv", "stem").replace("head.fc", "classifier")
    if not key.startswith("stages"):
        return key.replace("norm.", "last_norm.")
    _, stage, _, index, rest = key.split(".", 4)
    place = sum(blocks[: int(stage)]) + int(index)
    return f"stages.{place}.{rest.replace('downsample.conv', 'shortcut')}"


def same(ours: nn.Module, theirs: nn.Module) -> None:
    """Equal logits, in training and then in evaluation with the statistics that it moved."""
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        for training in (True, False):
            y, expected = ours.train(training)(x), theirs.train(training)(x)
            assert expected.abs().max() > 1e-3
            torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("depth", "blocks"), [(18, (2, 2, 2, 2)), (50, (3, 4, 6, 3))])
def test_the_output_is_that_of_torchvision(depth: int, blocks: tuple[int, ...]) -> None:
    theirs = torchvision.models.get_model(f"resnet{depth}", num_classes=10).double()
    ours = create_model("imagenet_resnet", NormFactory("bn"), classes=10, depth=depth).double()
    same(filled(ours, theirs, lambda key: of_torchvision(key, blocks)), theirs)


def test_the_output_is_that_of_timm() -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnetv2_50", num_classes=10).double()
    ours = create_model("imagenet_preresnet", NormFactory("bn"), classes=10).double()
    blocks = STAGES[50]
    same(filled(ours, theirs, lambda key: of_timm(key, blocks)), theirs)


def test_what_the_factory_is_asked_for(norms: BatchNorms) -> None:
    with torch.device("meta"):
        create_model("imagenet_resnet", norms, classes=10, depth=18)
    expected = [(64, True, 0)]
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        shortcut = [(width, False, stage)] if stage > 1 else []
        expected += shortcut + [(width, activated, stage) for activated in (True, False) * 2]
    assert norms.norms == expected
    assert norms.joints == [64, 64, 128, 128, 256, 256, 512, 512]


def test_what_the_factory_is_asked_for_before_the_activation(norms: BatchNorms) -> None:
    with torch.device("meta"):
        create_model("imagenet_preresnet", norms, classes=10, depth=50)
    expected, channels_in = [], 64
    for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), STAGES[50], strict=True), 1):
        for _ in range(blocks):
            expected += [(c, True, stage) for c in (channels_in, width, width)]
            channels_in = 4 * width
    assert norms.norms == [*expected, (2048, True, 4)]
    assert norms.joints == []


def normal(y: Tensor) -> Tensor:
    return functional.batch_norm(y, None, None, training=True)


@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (12, 2)])
def test_bottleneck_is_its_formula(channels: int, stride: int, norms: BatchNorms) -> None:
    torch.manual_seed(0)
    block = Bottleneck(
        norms, 8, channels, stride, 1, normalized(norms, 8, channels, stride, stage=1)
    )
    x = torch.randn(3, 8, 7, 7)
    y = functional.relu(normal(functional.conv2d(x, block.conv1.weight)))
    y = functional.conv2d(y, block.conv2.weight, stride=stride, padding=1)
    y = normal(functional.conv2d(functional.relu(normal(y)), block.conv3.weight))
    shortcut = x
    if stride == 2:
        shortcut = normal(functional.conv2d(x, block.shortcut[0].weight, stride=2))
    torch.testing.assert_close(block(x), functional.relu(y + shortcut))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (12, 2)])
def test_bottleneck_before_the_activation_is_its_formula(
    channels: int, stride: int, shared: bool, norms: BatchNorms
) -> None:
    torch.manual_seed(0)
    joint: Any = projected(8, channels, stride)
    block = PreActivationBottleneck(norms, 8, channels, stride, 1, joint, shared)
    x = torch.randn(3, 8, 7, 7)
    first = functional.relu(normal(x))
    y = functional.relu(normal(functional.conv2d(first, block.conv1.weight)))
    y = functional.conv2d(y, block.conv2.weight, stride=stride, padding=1)
    y = functional.conv2d(functional.relu(normal(y)), block.conv3.weight)
    shortcut = first if shared else x
    if stride == 2:
        shortcut = functional.conv2d(shortcut, joint.weight, stride=2)
    torch.testing.assert_close(block(x), y + shortcut)


def test_the_first_block_of_each_stage_shares_its_activation(norms: BatchNorms) -> None:
    with torch.device("meta"):
        net = create_model("imagenet_preresnet", norms, classes=10, depth=50)
    shared = [block.shared for block in net.stages]
    assert shared == [index == 0 for blocks in STAGES[50] for index in range(blocks)]


@pytest.mark.parametrize("depth", [18, 50])
def test_zero_init_last_starts_each_block_as_its_shortcut(depth: int, norms: BatchNorms) -> None:
    net = create_model("imagenet_resnet", norms, classes=2, depth=depth, zero_init_last=True)
    block = net.stages[-1]
    x = torch.relu(torch.randn(2, 512 if depth == 18 else 2048, 2, 2))
    assert torch.equal(block(x), x)
    last = [m.norm2 if depth == 18 else m.norm3 for m in net.stages]
    assert all((norm.weight == 0).all() for norm in last)
    assert sum(
        (m.weight == 0).all() for m in net.modules() if isinstance(m, nn.BatchNorm2d)
    ) == len(last)


def test_zero_init_last_needs_a_weight(odd_norms: OddNorms) -> None:
    with pytest.raises(UserError, match=r"^zero_init_last=true: .*none"):
        create_model("imagenet_resnet", odd_norms, classes=2, depth=18, zero_init_last=True)
