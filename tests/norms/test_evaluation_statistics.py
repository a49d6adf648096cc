"""Evaluation with the input's own statistics mixed into the running ones, against the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normbench.errors import UserError
from normbench.norms import create_norm
from normbench.norms.evaluation import RunningStatistics, evaluation_statistics
from normbench.norms.plane import Moments, combine
from normbench.norms.tracking import without_tracking

from .table import CHANNELS, ROWS, Row


def tracks(norm: nn.Module) -> bool:
    """Not sn without bn."""
    names = [name for name, _ in norm.named_buffers()]
    return isinstance(norm, RunningStatistics) and "running_mean" in names


TRACKING = [row for row in ROWS if tracks(row.create())]


def images(n: int = 4, seed: int = 0) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    shape, each = (n, CHANNELS, 5, 3), (n, CHANNELS, 1, 1)
    spread, shift = (torch.randn(each, generator=numbers, dtype=torch.float64) for _ in range(2))
    return torch.randn(shape, generator=numbers, dtype=torch.float64) * spread.exp() + 2 * shift


def lived(row: Row) -> Any:
    """The norm in evaluation, with parameters and running statistics that are not the first ones."""
    torch.manual_seed(0)
    norm = row.create(images=2)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
        for seed in range(1, 4):
            norm(images(seed=seed))
    return norm.eval()


def moments(x: Tensor) -> Moments:
    return Moments(x.mean((2, 3)), x.var((2, 3), correction=0), x.shape[2] * x.shape[3])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_combine_is_the_law_of_total_variance(share: float) -> None:
    """Of 3 numbers and of as many others as make the share."""
    few, many = images(3)[:, 0, 0], images(8, seed=1)[:, 1, 0]
    some = {0.0: many[:0], 0.25: few[:1], 1.0: few}[share]
    rest = {0.0: many, 0.25: many[:3], 1.0: many[:0]}[share]
    parts = [part if len(part) else many for part in (rest, some)]
    both = [Moments(part.mean(0), part.var(0, correction=0), len(part)) for part in parts]
    found = combine(both[0], both[1], share)
    whole = torch.cat([rest, some])
    torch.testing.assert_close(found.mean, whole.mean(0))
    torch.testing.assert_close(found.var, whole.var(0, correction=0))


def test_example_weighing_of_batch_norm_is_the_papers_formula() -> None:
    """Summers & Dinneen 2020: raw moments of the running statistics and of the image, averaged."""
    norm, x, a = lived(next(row for row in ROWS if row.name == "bn")), images(), 0.3
    wide = (None, slice(None), None, None)
    mean, var = norm.running_mean[wide], norm.running_var[wide]
    own, square = x.mean((2, 3), keepdim=True), x.square().mean((2, 3), keepdim=True)
    first = (1 - a) * mean + a * own
    second = (1 - a) * (var + mean.square()) + a * square
    expected = (x - first) / torch.sqrt(second - first.square() + norm.eps)
    expected = expected * norm.weight[wide] + norm.bias[wide]
    with evaluation_statistics(norm, a):
        torch.testing.assert_close(norm(x), expected)


def test_each_image_by_itself_is_evaluation_with_its_own_running_statistics() -> None:
    """For every norm: as though the mixture had been the running statistics, image by image."""
    x = images()
    for row in TRACKING:
        norm = lived(row)
        before = {name: b.clone() for name, b in norm.named_buffers()}
        plain = norm(x)
        with evaluation_statistics(norm, 0.0):
            assert torch.equal(norm(x), plain), row
        with evaluation_statistics(norm, 0.4):
            found = norm(x)
        assert not torch.allclose(found, plain), row
        assert {"own_weight", "own_images", "traceable"}.isdisjoint(vars(norm)), row
        assert all(torch.equal(b, before[name]) for name, b in norm.named_buffers()), row
        spread = norm.running_std.square() - norm.eps if row.norm == "brn" else norm.running_var
        running = Moments(norm.running_mean.clone(), spread.clone(), 0)
        for one, y in zip(x.split(1), found.split(1), strict=True):
            mixed = combine(running, norm.tracked(moments(one)), 0.4)
            norm.set_running(mixed.mean[0], mixed.var[0])
            torch.testing.assert_close(norm(one), y, msg=str(row))


def test_the_test_batch_alone_is_training() -> None:
    """At weight 1 over a worker's images; Batch Renorm's correction is not evaluation's."""
    x = images()
    for row in TRACKING:
        norm = lived(row)
        if row.norm == "brn":
            continue
        with evaluation_statistics(norm, 1.0, 2):
            found = norm(x)
        with without_tracking():
            torch.testing.assert_close(norm.train()(x), found, msg=str(row))


class Own(nn.Module):
    """Running statistics of a kind that is not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_square", torch.ones(3))


@pytest.mark.parametrize(
    ("norm", "weight", "message"),
    [
        (create_norm("gn", 4, groups=2), 0.5, "no norm of this network keeps running statistics"),
        (create_norm("sn", 4, using=["in", "ln"]), 0.5, "no norm of this network keeps"),
        (nn.Sequential(create_norm("bn", 4), Own()), 0.5, "Own keeps running_square in a way"),
        (create_norm("bn", 4), 1.5, r"weight=1\.5: must be from 0 to 1"),
    ],
)
def test_refused(norm: nn.Module, weight: float, message: str) -> None:
    with pytest.raises(UserError, match=message), evaluation_statistics(norm, weight):
        pass
