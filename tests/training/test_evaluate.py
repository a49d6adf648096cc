"""Accuracy over all test images; population statistics by the papers' formulas."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench import create_norm
from normbench.record.record import Record
from normbench.settings.cell import cell_of
from normbench.settings.schema import Settings
from normbench.training.evaluate import accuracy, population_statistics

IMAGES, WORKERS, CHANNELS = 3, 2, 4


@pytest.mark.parametrize("sizes", [[1], [7], [3, 3, 3], [5, 2], [40, 40, 17]])
@pytest.mark.parametrize("classes", [3, 5, 6, 12])
def test_accuracy_counts_every_image_once(sizes: list[int], classes: int) -> None:
    numbers = torch.Generator().manual_seed(sum(sizes) + classes)
    images = torch.randn(sum(sizes), classes, 2, 2, generator=numbers)
    labels = torch.randint(0, classes, (sum(sizes),), generator=numbers)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    logits = images.mean((2, 3))
    found = accuracy(model, zip(images.split(sizes), labels.split(sizes), strict=True))
    rank = (logits > logits.gather(1, labels[:, None])).sum(1)  # how many classes come before
    top1, top5 = (100 * (rank < k).double().mean().item() for k in (1, 5))
    assert found.top1_percent == pytest.approx(top1)
    assert found.top5_percent == (pytest.approx(top5) if classes > 5 else None)
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_accuracy_is_in_evaluation_mode_and_without_gradients() -> None:
    seen = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, torch.is_grad_enabled()))
            return x.mean((2, 3))

    accuracy(Watch().train(), [(torch.zeros(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64))])
    assert seen == [(False, False)]


def batches(count: int = 5) -> list[Tensor]:
    numbers = torch.Generator().manual_seed(1)
    shape = (count, IMAGES * WORKERS, CHANNELS, 5, 5)
    return list(3 + 2 * torch.randn(shape, generator=numbers, dtype=torch.float64))


def trained(norm: nn.Module) -> Any:
    """With buffers and parameters that are not the first ones."""
    norm.double().train()
    with torch.no_grad():
        for p in norm.parameters():
            p.add_(0.3 * torch.rand(p.shape, generator=torch.Generator().manual_seed(2)))
        for images in batches(3):
            norm(images - 7)
    return norm


def workers(images: Tensor) -> Tensor:
    """[workers, channels, all pixels of a worker's images]."""
    own = torch.stack(images.split(IMAGES))
    return own.transpose(1, 2).flatten(2)


def mean_over_batches(
    statistic: Callable[[Tensor], Tensor], centre: Tensor | None = None
) -> Tensor:
    """The mean of a statistic [workers, channels] over workers and batches."""
    found = []
    for images in batches():
        if centre is not None:  # RBN: the statistics are those of its centred input
            images = images + centre[:, None, None] * images.mean((2, 3), keepdim=True)
        found.append(statistic(workers(images)).mean(0))
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("name", ["bn", "bin", "rbn", "sn", "brn"])
def test_the_papers_formula(name: str) -> None:
    """E[x] = mean of μ_B, Var[x] = mean of σ²_B · m/(m − 1) (SN: σ²_B; BRN: mean of σ_B)."""
    norm = trained(create_norm(name, CHANNELS, images=IMAGES))
    centre = norm.center_weight.detach() if name == "rbn" else None
    with population_statistics(norm, batches()):
        mean = mean_over_batches(lambda x: x.mean(2), centre)
        torch.testing.assert_close(norm.running_mean, mean)
        if name == "brn":
            eps: Any = norm.eps
            std = mean_over_batches(lambda x: (x.var(2, correction=0) + eps).sqrt())
            torch.testing.assert_close(norm.running_std, std)
            return
        correction = 0 if name == "sn" else 1
        var = mean_over_batches(lambda x: x.var(2, correction=correction), centre)
        torch.testing.assert_close(norm.running_var, var)


def test_torch_batch_norm() -> None:
    norm = trained(nn.BatchNorm2d(CHANNELS))
    with population_statistics(norm, batches()):
        flat = [x.transpose(0, 1).flatten(1) for x in batches()]
        mean = torch.stack([x.mean(1) for x in flat]).mean(0)
        var = torch.stack([x.var(1) for x in flat]).mean(0)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, var)


def test_deeper_layers_see_what_training_shows_them() -> None:
    """The second norm's statistics are of inputs normalized by the batch, as in training."""
    first, second = (trained(nn.BatchNorm2d(CHANNELS)) for _ in range(2))
    inner = []
    for images in batches():
        y = F.batch_norm(images, None, None, first.weight, first.bias, training=True)
        inner.append(y.transpose(0, 1).flatten(1))
    with population_statistics(nn.Sequential(first, second), batches()):
        mean = torch.stack([x.mean(1) for x in inner]).mean(0)
        var = torch.stack([x.var(1) for x in inner]).mean(0)
        torch.testing.assert_close(second.running_mean, mean.detach())
        torch.testing.assert_close(second.running_var, var.detach())


NORMS = ["bn", "bin", "rbn", "sn", "brn", "torch"]


def make(name: str) -> Any:
    made = nn.BatchNorm2d(CHANNELS) if name == "torch" else create_norm(name, CHANNELS, images=3)
    return trained(made)


@pytest.mark.parametrize("name", NORMS)
def test_everything_is_put_back(name: str) -> None:
    norm = make(name)
    before, momentum = copy.deepcopy(norm.state_dict()), norm.momentum
    with population_statistics(norm, batches()):
        assert not torch.equal(norm.running_mean, before["running_mean"])
        labels = torch.zeros(6, dtype=torch.long)
        accuracy(nn.Sequential(norm, nn.Flatten()), [(batches(1)[0], labels)])
    after = norm.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert norm.momentum == momentum
    assert all(p.grad is None for p in norm.parameters())


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("where", ["in the batches", "after them"])
def test_everything_is_put_back_after_a_failure(name: str, where: str) -> None:
    norm = make(name)
    before, momentum = copy.deepcopy(norm.state_dict()), norm.momentum
    some: list[Any] = [*batches(2), "not an image"] if where == "in the batches" else batches(2)
    with pytest.raises((AttributeError, TypeError, ZeroDivisionError)):  # noqa: SIM117
        with population_statistics(norm, some):
            raise ZeroDivisionError
    assert all(torch.equal(norm.state_dict()[key], value) for key, value in before.items())
    assert norm.momentum == momentum


@pytest.mark.parametrize("norm", ["bn", "sn", "brn"])
def test_precise_changes_the_evaluation_and_not_the_training(
    norm: str, cell: Callable[..., Settings], fit: Callable[[Settings], Record]
) -> None:
    results = {}
    for statistics in ("running", "precise"):
        settings = cell(norm=norm, evaluate={"statistics": statistics, "batches": 6})
        record = fit(settings)
        state = torch.load(cell_of(settings).folder / "checkpoint.pt", weights_only=True)
        results[statistics] = record.curves, state["model"]
    (running, one), (precise, two) = results.values()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert running["train_loss"] == precise["train_loss"]
    assert running["test_loss"] != precise["test_loss"]


def test_population_statistics_of_renorm_do_not_depend_on_the_order() -> None:
    """Its forward uses running statistics: those of before the pass, not those of the pass."""
    torch.manual_seed(0)
    model = nn.Sequential(create_norm("brn", 3, warmup=False), create_norm("bn", 3)).double()
    batches = [torch.randn(4, 3, 5, 5).double() * (1 + i) + i for i in range(4)]
    found = []
    for order in (batches, batches[::-1]):
        with population_statistics(model, order):
            found.append({name: b.clone() for name, b in model.named_buffers()})
    torch.testing.assert_close(found[0], found[1])
    expected = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(found[0]["0.running_mean"], expected)
