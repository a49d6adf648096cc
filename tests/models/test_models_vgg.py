"""VGG-A: the same convolutions as torchvision's, the fully connected part, the stages."""

from __future__ import annotations

import torch
import torchvision
from torch import nn

from normbench.models import create_model
from normbench.models.layers import Conv

from .factories import BatchNorms


def test_the_features_are_those_of_torchvision(norms: BatchNorms) -> None:
    with torch.device("meta"):
        net = create_model("vgg", norms, classes=10)
        theirs = torchvision.models.vgg11_bn().features
    ours = [m for m in net.features if not isinstance(m, nn.BatchNorm2d)]
    rest = [m for m in theirs if not isinstance(m, (nn.BatchNorm2d, nn.ReLU))]
    assert len(ours) == len(rest) == 13
    for mine, other in zip(ours, rest, strict=True):
        assert isinstance(mine, type(other))
        if isinstance(other, nn.Conv2d):
            assert mine.weight.shape == other.weight.shape
            assert (mine.stride, mine.padding) == (other.stride, other.padding)


def test_parameter_count(norms: BatchNorms) -> None:
    with torch.device("meta"):
        net = create_model("vgg", norms, classes=10, hidden=96)
    features = 9_220_480 - 2_752 + 2 * 2_752  # published, less the biases, with the norms
    connected = 512 * 96 + 96 * 96 + 4 * 96
    assert sum(p.numel() for p in net.parameters()) == features + connected + 96 * 10 + 10


def test_what_the_factory_is_asked_for(norms: BatchNorms) -> None:
    create_model("vgg", norms, classes=10, hidden=24)
    stages = [(64, 1), (128, 2), (256, 3), (256, 3)]
    stages += [(512, 4), (512, 4), (512, 5), (512, 5), (24, 6), (24, 6)]
    assert norms.norms == [(channels, True, stage) for channels, stage in stages]
    assert norms.joints == []


def test_fully_connected_layers_see_one_pixel(norms: BatchNorms) -> None:
    net = create_model("vgg", norms, classes=10, hidden=24)
    shapes = []
    for module in net.connected:
        module.register_forward_hook(lambda _m, args, out: shapes.append(tuple(out.shape)))
    net(torch.randn(2, 3, 64, 64))
    assert shapes == [(2, 24, 1, 1)] * 4
    assert [m.kernel_size for m in net.connected if isinstance(m, Conv)] == [(1, 1)] * 2
