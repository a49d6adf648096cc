"""What every network promises: shapes, paired starts, memory format, training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from normbench.models import create_model
from normbench.models.layers import Classifier, Conv

from .factories import BatchNorms, OddNorms


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(net: nn.Module) -> list[torch.Tensor]:
    return [m.weight.detach() for m in net.modules() if isinstance(m, (Conv, Classifier))]


@pytest.mark.parametrize("size", [(32, 32), (40, 33)])
def test_shape_and_finite(
    small: tuple[str, dict[str, Any]], norms: BatchNorms, size: tuple[int, int]
) -> None:
    name, options = small
    net = create_model(name, norms, classes=7, **options)
    x = torch.randn(3, 3, *size)
    before = x.clone()
    y = net(x)
    assert y.shape == (3, 7)
    assert y.isfinite().all()
    assert torch.equal(x, before)


def test_the_start_depends_on_the_seed_alone(
    small: tuple[str, dict[str, Any]], norms: BatchNorms, odd_norms: OddNorms
) -> None:
    name, options = small
    torch.manual_seed(1)
    one = create_model(name, norms, classes=5, generator=seeded(3), **options)
    torch.manual_seed(2)
    two = create_model(name, odd_norms, classes=5, generator=seeded(3), **options)
    other = create_model(name, norms, classes=5, generator=seeded(4), **options)
    assert len(drawn(one)) == len(drawn(two)) >= 8
    for a, b, c in zip(drawn(one), drawn(two), drawn(other), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_the_generator_alone_is_drawn_from_in_module_order(
    small: tuple[str, dict[str, Any]], norms: BatchNorms
) -> None:
    name, options = small
    net = create_model(name, norms, classes=5, generator=seeded(3), **options)
    again = seeded(3)
    for weight in drawn(net):
        if weight.dim() == 4:
            std = (2 / (weight.shape[0] * weight.shape[2] * weight.shape[3])) ** 0.5
        else:
            std = weight.shape[1] ** -0.5
        expected = torch.empty_like(weight).normal_(0, std, generator=again)
        torch.testing.assert_close(weight, expected)


def test_norms_keep_their_own_start(small: tuple[str, dict[str, Any]], odd_norms: OddNorms) -> None:
    name, options = small
    net = create_model(name, odd_norms, classes=5, generator=seeded(3), **options)
    own = [m for n, m in net.named_modules() if n.endswith((".gate", ".head"))]
    assert len(own) > 8
    assert all((m.weight == 0.5).all() for m in own)


def test_only_norms_and_the_classifier_have_a_bias(
    small: tuple[str, dict[str, Any]], norms: BatchNorms
) -> None:
    name, options = small
    net = create_model(name, norms, classes=5, **options)
    biased = [m for m in net.modules() if getattr(m, "bias", None) is not None]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in biased) == len(biased) - 1
    assert isinstance(biased[-1], Classifier)
    assert (biased[-1].bias == 0).all()
    assert not any(m.bias is not None for m in net.modules() if isinstance(m, nn.Conv2d))


def test_channels_last_stays_channels_last(
    small: tuple[str, dict[str, Any]], norms: BatchNorms
) -> None:
    name, options = small
    last = torch.channels_last
    net = create_model(name, norms, classes=5, **options).to(memory_format=last)
    formats: list[bool] = []
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _m, args, out: formats.extend(
                    t.is_contiguous(memory_format=last) for t in (*args, out)
                )
            )
    x = torch.randn(2, 3, 32, 32).contiguous(memory_format=last)
    net(x)
    assert len(formats) == 2 * len(norms.norms)
    assert all(formats)


def test_every_parameter_trains_and_five_steps_lower_the_loss(
    small: tuple[str, dict[str, Any]], norms: BatchNorms
) -> None:
    name, options = small
    net = create_model(name, norms, classes=4, generator=seeded(0), **options)
    x = torch.randn(8, 3, 32, 32, generator=seeded(1))
    target = torch.arange(8) % 4
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(6):
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(net(x), target)
        loss.backward()
        losses.append(loss.item())
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
        sgd.step()
    assert losses[-1] < 0.9 * losses[0], losses
