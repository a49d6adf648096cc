"""A run is a function of its settings: seeds, streams, precision, layout."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from rich.console import Console
from torch import Tensor, nn

from normbench import ops
from normbench.data import Dataset
from normbench.record.display import Display
from normbench.record.record import Record
from normbench.settings.cell import cell_of
from normbench.settings.schema import Settings
from normbench.training import loop
from normbench.training import run as train
from normbench.training.step import Step

Cell = Callable[..., Settings]
Fit = Callable[[Settings], Record]
TIMES = ("train_seconds", "images_per_second")


def some_slow(*values: str) -> list[ParameterSet]:
    """More of the same, which are left out in a hurry."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def results(record: Record) -> dict[str, Any]:
    return {key: values for key, values in record.curves.items() if key not in TIMES}


def weights(settings: Settings) -> dict[str, Tensor]:
    state = torch.load(cell_of(settings).folder / "checkpoint.pt", weights_only=True)
    found: dict[str, Tensor] = state["model"]
    return found


@pytest.mark.parametrize("norm", ["sn", *some_slow("bn", "frn")])
def test_the_same_seed_is_the_same_run(cell: Cell, fit: Fit, norm: str) -> None:
    one, two = cell(norm=norm, study="one"), cell(norm=norm, study="two")
    torch.manual_seed(1)  # the run has streams of its own
    first = fit(one)
    torch.manual_seed(2)
    second = fit(two)
    assert results(first) == results(second)
    assert first.learned == second.learned
    assert all(torch.equal(weights(two)[key], value) for key, value in weights(one).items())


def test_dropout_follows_the_seed(cell: Cell, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that draw from torch's own stream in training: the same numbers in a run and in two."""
    build = loop.seeded_network

    def with_dropout(*arguments: Any) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.2), build(*arguments))

    monkeypatch.setattr(loop, "seeded_network", with_dropout)
    torch.manual_seed(1)
    first = fit(cell(study="one"))
    torch.manual_seed(2)
    assert results(fit(cell(study="two"))) == results(first)


def test_accuracy_by_domain(cell: Cell, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each domain, and their mean, of as many images in each, is that of all."""
    mixed = tiny.in_domains(("grey", "hue"))
    monkeypatch.setattr(train, "load_dataset", lambda *_, **__: mixed)
    curves = train.run(cell_of(cell()), Display(Console(file=io.StringIO()))).curves
    domains = [curves[f"test_top1_percent.{name}"] for name in ("grey", "hue")]
    means = [(grey + hue) / 2 for grey, hue in zip(*domains, strict=True)]
    assert curves["test_top1_percent"] == pytest.approx(means)


@pytest.mark.parametrize("backend", ["eager", "cpu", None])
def test_ops_chooses_the_kernels(
    cell: Cell, fit: Fit, monkeypatch: pytest.MonkeyPatch, backend: str | None
) -> None:
    """For the run, and no longer."""
    seen = set()
    step = Step.__call__

    def watch(self: Step, images: Tensor, labels: Tensor) -> None:
        seen.add(ops.use.chosen)
        step(self, images, labels)

    monkeypatch.setattr(Step, "__call__", watch)
    with ops.use("auto"):
        assert fit(cell(epochs=1, ops=backend)).status == "ok"
        assert ops.use.chosen == "auto"
    assert seen == {backend or "auto"}


def test_another_seed_is_another_run(cell: Cell, fit: Fit) -> None:
    assert results(fit(cell(seed=0))) != results(fit(cell(seed=1)))


Seen = dict[str, list[Tensor]]


@pytest.fixture
def watched(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], Seen]:
    """The first weights and the training images of a run."""

    def run(settings: Settings) -> Seen:
        seen: Seen = {"weights": [], "images": []}
        build = loop.seeded_network

        def note(model: nn.Module, arguments: tuple[Tensor]) -> None:
            if model.training:
                seen["images"].append(arguments[0].clone())

        def network(*arguments: Any) -> nn.Module:
            made = build(*arguments)
            layers = (m for m in made.modules() if isinstance(m, nn.Conv2d | nn.Linear))
            seen["weights"] += [m.weight.detach().clone() for m in layers]
            made.register_forward_pre_hook(note)
            return made

        with monkeypatch.context() as patch:
            patch.setattr(loop, "seeded_network", network)
            fit(settings)
        return seen

    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "sn"},
        {"norm": "frn"},
        {"norm": "none", "lr": 0.01},
        {"batch": 2, "workers": 8},
        {"evaluate": {"statistics": "precise", "batches": 3}},
        {"precision": "bf16"},
    ],
)
def test_paired_seeds(
    cell: Cell, watched: Callable[[Settings], Seen], changes: dict[str, Any]
) -> None:
    """Two norms with one seed start from the same convolutions and see the same images."""
    one = watched(cell(norm="bn"))
    two = watched(cell(**({"norm": "bn"} | changes)))
    for what in ("weights", "images"):
        shown = two[what]
        if "evaluate" in changes and what == "images":  # those of the statistics come in between
            shown = shown[:4] + shown[7:11]
        assert len(one[what]) == len(shown) > 0
        assert all(torch.equal(a, b) for a, b in zip(one[what], shown, strict=True)), what


def test_every_epoch_has_an_order_of_its_own(
    cell: Cell, watched: Callable[[Settings], Seen]
) -> None:
    images = watched(cell(augment=False))["images"]
    first, second = torch.cat(images[:4]), torch.cat(images[4:])
    assert not torch.equal(first, second)
    by_sum = [x.sum((1, 2, 3)).sort().values for x in (first, second)]
    torch.testing.assert_close(*by_sum)  # the same images


@pytest.mark.parametrize("norm", ["bn", "frn", *some_slow("sn", "bin", "brn", "rbn")])
def test_bf16(cell: Cell, fit: Fit, norm: str) -> None:
    record = fit(cell(norm=norm, precision="bf16", epochs=1))
    (loss,), (test_loss,) = record.curves["train_loss"], record.curves["test_loss"]
    full = fit(cell(norm=norm, epochs=1)).curves["train_loss"][0]
    assert record.status == "ok"
    assert loss is not None
    assert test_loss is not None
    assert math.isfinite(loss)
    assert loss != full
    assert loss == pytest.approx(full, rel=0.05)


@pytest.mark.parametrize("norm", ["bn", "frn", *some_slow("sn", "lrn")])
def test_layout_changes_the_rounding_only(cell: Cell, fit: Fit, norm: str) -> None:
    quick = {"norm": norm, "epochs": 1, "lr": 0.01}
    last, first = (results(fit(cell(**quick, channels_last=flag))) for flag in (True, False))
    assert last["train_loss"] == pytest.approx(first["train_loss"], rel=1e-3)
    assert last["test_loss"] == pytest.approx(first["test_loss"], rel=1e-2)


def test_the_rate_of_the_row_is_that_of_its_last_step(cell: Cell, fit: Fit) -> None:
    settings = cell(epochs=3, warmup=1 / 3)
    rates = fit(settings).curves["lr"]
    assert rates[0] == pytest.approx(settings.peak_lr)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_a_network_can_learn(cell: Cell, fit: Fit) -> None:
    settings = cell(epochs=12, augment=False, lr=0.2, batch=8, workers=1, norm="bn")
    losses = fit(settings).curves["train_loss"]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0] / 2


def test_label_smoothing_is_in_the_loss(cell: Cell, fit: Fit) -> None:
    smooth, sharp = (fit(cell(epochs=1, label_smoothing=part)) for part in (0.5, 0.0))
    assert smooth.curves["train_loss"] != sharp.curves["train_loss"]
