"""Networks of torchvision and timm: every batch norm replaced, the ReLUs that follow one taken in.

On shapes alone for all, with real numbers for a small one of each family; scripts/check_conversion
does the latter for all.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normbench.norms import Norm
from normbench.norms.convert.convert import convert
from normbench.training.foreign import original

from .table import close

TORCHVISION = {  # network: ReLUs that follow a batch norm alone
    "resnet18": 9,  # stem, and the first of the two of 8 blocks
    "resnet34": 17,
    "resnet50": 33,  # stem, and the first two of the three of 16 blocks
    "resnet101": 67,
    "resnext50_32x4d": 33,
    "wide_resnet50_2": 33,
    "vgg11_bn": 8,  # all
    "vgg13_bn": 10,
    "vgg16_bn": 13,
    "vgg19_bn": 16,
    "densenet121": 121,  # all
    "inception_v3": 94,  # all
    "googlenet": 57,  # all
    "mobilenet_v2": 35,  # ReLU6: first, last, and two in each of 17 blocks but one in the first
    "mobilenet_v3_small": 5,
    "mobilenet_v3_large": 11,
    "mnasnet0_5": 35,
    "mnasnet0_75": 35,
    "mnasnet1_0": 35,
    "mnasnet1_3": 35,
    "shufflenet_v2_x0_5": 37,
    "shufflenet_v2_x1_0": 37,
    "shufflenet_v2_x1_5": 37,
    "shufflenet_v2_x2_0": 37,
    "regnet_x_400mf": 45,  # stem, and two in each of 22 blocks
    "regnet_x_800mf": 33,
    "regnet_x_1_6gf": 37,
    "regnet_y_400mf": 33,
    "regnet_y_800mf": 29,
    "efficientnet_b0": 0,  # SiLU
    "maxvit_t": 0,  # GELU
}
TIMM = {
    "resnet18": 9,
    "resnet50d": 35,
    "seresnet18": 9,
    "skresnet18": 25,
    "resnext50_32x4d": 33,
    "resnetv2_50": 49,  # all; BatchNormAct2d
    "densenet121": 121,
    "dla34": 9,  # the blocks take an optional argument
    "dpn68": 72,
    "efficientnet_b0": 0,
    "efficientnet_lite0": 33,  # ReLU6
    "ese_vovnet19b_dw": 23,
    "ghostnet_100": 34,
    "hrnet_w18_small": 43,
    "inception_v3": 94,
    "mnasnet_100": 35,
    "mobilenetv2_050": 35,
    "mobilenetv3_small_050": 5,
    "regnetx_002": 27,
    "repvgg_a0": 0,  # after an addition
    "selecsls42": 41,
    "xception41": 32,
}
QUICK = [  # one for each way of calling a ReLU; the others are slow
    "torchvision/resnet18", "torchvision/vgg11_bn", "torchvision/densenet121",
    "torchvision/mobilenet_v2", "torchvision/mobilenet_v3_small", "torchvision/shufflenet_v2_x0_5",
    "torchvision/regnet_x_400mf", "torchvision/efficientnet_b0", "timm/resnet18",
    "timm/resnetv2_50", "timm/dla34", "timm/efficientnet_lite0", "timm/ghostnet_100",
    "timm/repvgg_a0", "timm/selecsls42",
]  # fmt: skip
LARGE = {"inception_v3": 107, "maxvit_t": 224}  # pixels; the others 64


def networks(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name in quick else slow) for name in names]


EVERY = {f"torchvision/{name}": n for name, n in TORCHVISION.items()}
EVERY |= {f"timm/{name}": n for name, n in TIMM.items()}


def pixels(name: str) -> int:
    return LARGE.get(name.partition("/")[2], 64)


def batch_norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize("name", networks(EVERY, QUICK))
@torch.no_grad()
def test_shapes(name: str) -> None:
    """Each batch norm is replaced and the new norm called; the shape of the logits stays."""
    pytest.importorskip(name.partition("/")[0])
    with torch.device("meta"):
        net = original(name, classes=7)
        x = torch.empty(2, 3, pixels(name), pixels(name))
        count = batch_norms(net)
        net, words = convert(net, "frn", activation="auto")
    assert words.startswith(f"replaced {count} BatchNorm2d by frn")
    assert batch_norms(net) == 0
    norms = [module for module in net.modules() if isinstance(module, Norm)]
    assert len(norms) == count
    assert sum(norm.activation == "tlu" for norm in norms) == EVERY[name]
    called: set[nn.Module] = set()
    for norm in norms:
        norm.register_forward_hook(lambda own, *_: called.add(own))
    assert net(x).shape == (2, 7)
    assert called == set(norms)


SMALL = [  # beside those of test_convert.py: ResNet, MobileNetV2, VGG; the first six are quick
    "torchvision/densenet121", "torchvision/mobilenet_v3_small", "torchvision/shufflenet_v2_x0_5",
    "torchvision/regnet_y_400mf", "timm/mobilenetv2_050", "timm/skresnet18",
    "torchvision/googlenet", "torchvision/inception_v3", "torchvision/mnasnet0_5",
    "torchvision/resnext50_32x4d", "timm/regnetx_002",
]  # fmt: skip


def outcome(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Logits and first gradient in training, logits in evaluation with the moved statistics."""
    net.train()
    torch.manual_seed(0)  # of dropout
    y = net(x)
    gradient = torch.autograd.grad(y.square().mean(), next(net.parameters()))[0]
    with torch.no_grad():
        return [y.detach(), gradient, net.eval()(x)]


@pytest.mark.parametrize("name", networks(SMALL, SMALL[:6]))
def test_bn_fused_with_its_relu_computes_what_the_network_did(name: str) -> None:
    pytest.importorskip(name.partition("/")[0])
    torch.manual_seed(0)
    net = original(name, classes=7).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    x = torch.randn(2, 3, pixels(name), pixels(name), dtype=torch.float64)
    fused, _ = convert(copy.deepcopy(net), "bn", activation="relu")
    for ours, theirs in zip(outcome(fused, x), outcome(net, x), strict=True):
        assert theirs.abs().max() > 0
        close(ours / theirs.abs().max(), theirs / theirs.abs().max(), tolerance=1e-5)
