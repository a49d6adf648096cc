"""Channel means over images, against their definitions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from normbench.norms import create_norm
from normbench.record.record import Record
from normbench.settings.schema import Settings
from normbench.training.channel_means import channel_means


def test_definitions() -> None:
    """Of the input of both norms, and of the output of the one that has no activation."""
    numbers = torch.Generator().manual_seed(0)
    images, each = (
        torch.randn(60, 3, size, size, generator=numbers, dtype=torch.float64) for size in (4, 1)
    )
    images = 2 * images + each + 5
    bare, bent = create_norm("gn", 3, groups=1), create_norm("bn", 3, activation="relu")
    network = nn.Sequential(bare, bent).double()
    found = channel_means(network, images.split(25))
    y = bare(images).detach()
    pixels, after = (t.transpose(0, 1).flatten(1) for t in (images, y))
    expected = {
        "0": {
            "input_mean": pixels.mean(1),
            "input_deviation": pixels.std(1, correction=0),
            "mean_deviation": y.mean((2, 3)).std(0) / after.std(1, correction=0),
        },
        "1": {"input_mean": after.mean(1), "input_deviation": after.std(1, correction=0)},
    }
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert not any(module._forward_hooks for module in network.modules())


def test_in_the_record(cell: Callable[..., Settings], fit: Callable[[Settings], Record]) -> None:
    """Of each of the seven norms of ResNet-8, where it is asked for."""
    asked = fit(cell(norm="bn", epochs=1, channel_means=True)).learned
    means = {layer: own["input_mean"] for layer, own in asked.items()}
    assert [len(values) for values in means.values()] == [16, 16, 16, 32, 32, 64, 64]
    assert all(any(values) for values in means.values())
    assert not fit(cell(norm="bn", epochs=1)).learned
