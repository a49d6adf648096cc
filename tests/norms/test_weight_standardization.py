"""Weight standardization: the paper's formula, and which convolutions of a network get it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torchvision import models

from normbench import convert_norms
from normbench.errors import UserError
from normbench.norms.weight_standardization import (
    Standardized,
    centred,
    convolutions_to_standardize,
    standardize_weights,
    standardized,
)

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def textbook(weight: Tensor) -> Tensor:
    """Qiao et al. 2019: less the mean, by the biased deviation of each filter; ε inside the root."""
    mean = weight.mean((1, 2, 3), keepdim=True)
    var = (weight - mean).square().mean((1, 2, 3), keepdim=True)
    return (weight - mean) / torch.sqrt(var + 1e-5)


def weight(
    *shape: int, layout: torch.memory_format = torch.contiguous_format, seed: int = 0
) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    drawn = 0.02 * torch.randn(shape, dtype=torch.float64, generator=numbers) + 0.01
    return drawn.contiguous(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (5, 1, 3, 3), (4, 7, 1, 1), (2, 3, 1, 5)])
def test_formula_and_gradient(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    w = weight(*shape, layout=layout)
    found = standardized(w)
    assert found.is_contiguous(memory_format=layout)
    torch.testing.assert_close(found, textbook(w), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(standardized, w)


def test_centred_filters() -> None:
    """MABN: less the mean, whose gradient has none; a network of them is saved whole."""
    w = weight(6, 4, 3, 3)
    torch.testing.assert_close(centred(w), w - w.flatten(1).mean(1)[:, None, None, None])
    assert torch.autograd.gradcheck(centred, w)
    for how in (True, "centred"):
        convs = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 2, 1, bias=False)
        ).double()
        x = torch.linspace(-1, 2, 75, dtype=torch.float64).view(1, 3, 5, 5)
        used = {True: standardized, "centred": centred}[how]
        expected = x
        for conv in convs:
            expected = nn.functional.conv2d(expected, used(conv.weight))  # type: ignore[arg-type]
        assert standardize_weights(convs, how) == 2  # type: ignore[arg-type]
        for net in (convs, copy.deepcopy(convs), pickle.loads(pickle.dumps(convs))):
            torch.testing.assert_close(net(x), expected)
            assert isinstance(net[0], Standardized)
            assert net.state_dict().keys() == {"0.weight", "1.weight"}


def test_a_constant_filter_is_zero_and_has_a_gradient() -> None:
    w = torch.full((2, 3, 3, 3), 0.5, dtype=torch.float64, requires_grad=True)
    found = standardized(w)
    assert not found.any()
    found.square().sum().backward()
    assert w.grad is not None and w.grad.isfinite().all()


def small() -> nn.Sequential:
    """Two layers that are standardized and three that are not, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, groups=2),  # with a bias, before a batch norm
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1, groups=4, bias=False),  # filters of one number
        nn.Conv2d(4, 6, 3),  # with a bias, before none
        nn.Flatten(),
        nn.LazyLinear(2),
    ).double()


def images() -> Tensor:
    return torch.randn(4, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_network_computes_with_standardized_weights() -> None:
    """That of a plain network whose weights were standardized by hand, in every layer that has it."""
    plain = small()
    plain(images())
    ours = copy.deepcopy(plain)
    assert standardize_weights(convolutions_to_standardize(ours)) == 2
    assert [isinstance(m, Standardized) for m in ours] == [True, False, True] + 5 * [False]
    assert standardize_weights(convolutions_to_standardize(ours)) == 0
    for layer in plain[0], plain[2]:
        assert isinstance(layer, nn.Conv2d)
        layer.weight.data = textbook(layer.weight.data)
    torch.testing.assert_close(ours(images()), plain(images()), rtol=1e-10, atol=1e-10)


def test_state_copies_and_symbols() -> None:
    """The parameters are those of the plain network; it can be copied and traced."""
    plain = small().eval()
    plain(images())
    ours = copy.deepcopy(plain)
    standardize_weights(convolutions_to_standardize(ours))
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True)
    )
    ours.load_state_dict(plain.state_dict())
    expected = ours(images())
    assert not torch.equal(expected, plain(images()))
    copied = copy.deepcopy(ours)
    with torch.no_grad():
        ours[0].weight.fill_(1.0)
    for again in (copied, fx.symbolic_trace(copied)):
        assert torch.equal(again(images()), expected)


def test_half_precision_rounds_after_the_standardization() -> None:
    conv = nn.Conv2d(8, 4, 3, bias=False)
    standardize_weights([conv])
    x = torch.randn(2, 8, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    wanted = torch.conv2d(x.bfloat16(), textbook(conv.weight).bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted)


def test_lazy_convolutions_are_refused() -> None:
    with pytest.raises(UserError, match="LazyConv2d has no filters yet"):
        convolutions_to_standardize(nn.Sequential(nn.LazyConv2d(3, 3), nn.BatchNorm2d(3)))


def timm_network(name: str) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, pretrained=False, num_classes=10)


@pytest.mark.parametrize(
    ("make", "convolutions", "left"),
    [
        (lambda: models.resnet18(weights=None), 20, 0),
        (lambda: models.vgg11_bn(weights=None, init_weights=False), 8, 0),
        (lambda: models.mobilenet_v3_small(weights=None), 34, 18),  # 9 squeeze-and-excitations
        (lambda: timm_network("tf_mobilenetv3_small_minimal_100"), 34, 1),  # Conv2dSame; the head
    ],
)
def test_convert_norms(
    make: Callable[[], nn.Module],
    convolutions: int,
    left: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with torch.device("meta"):
        model = convert_norms(
            make(), "gn", channels_per_group=1, activation="auto", weight_standardization=True
        )
        assert model.eval()(torch.empty(2, 3, 64, 64)).shape[0] == 2
    every = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    changed = sum(isinstance(m, Standardized) for m in every)
    assert (changed, len(every) - changed) == (convolutions, left)
    assert f"; {convolutions} convolutions standardize their weights" in capsys.readouterr().err


def test_convert_norms_leaves_weights_alone_unless_asked() -> None:
    model = convert_norms(small(), "frn")
    assert not any(isinstance(m, Standardized) for m in model.modules())
