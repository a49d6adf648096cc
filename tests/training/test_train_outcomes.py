"""How a run ends: ok, diverged, out of memory, failed; what it leaves in its folder."""

from __future__ import annotations

import dataclasses
import io
import json
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from normbench.errors import UserError
from normbench.record.display import Display
from normbench.record.record import METRICS, RECORD, SETTINGS, Record, read_record
from normbench.settings.cell import cell_of
from normbench.settings.identity import identity
from normbench.settings.schema import Choice, Evaluate, Settings
from normbench.training import run as train
from normbench.training import step
from normbench.training.tensorboard import Board

Cell = Callable[..., Settings]
Fit = Callable[[Settings], Record]
ROW = (
    "epoch", "lr", "train_loss", "train_top1_percent", "test_top1_percent", "test_top5_percent",
    "test_loss", "train_seconds", "images_per_second",
)  # fmt: skip


def strict(text: str) -> Any:
    """JSON without NaN and Infinity, which are no JSON."""

    def refuse(literal: str) -> None:
        raise AssertionError(literal)

    return json.loads(text, parse_constant=refuse)


def test_what_a_run_leaves(cell: Cell, fit: Fit) -> None:
    settings = cell(norm="sn", epochs=3)
    record = fit(settings)
    folder = cell_of(settings).folder
    assert not list(folder.glob("*.tmp"))
    rows = [strict(line) for line in (folder / METRICS).read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(tuple(row) == ROW for row in rows)
    assert strict((folder / RECORD).read_text())["status"] == "ok"
    assert read_record(folder) == record
    assert len(list(folder.glob("events.*"))) == 1


def test_the_record_is_complete(cell: Cell, fit: Fit) -> None:
    settings = cell(norm="sn", epochs=3)
    record = fit(settings)
    accuracies = record.curves["test_top1_percent"]
    numbers = [a for a in accuracies if a is not None]
    assert record.done
    assert record.error is None
    assert record.identity == identity(settings) == cell_of(settings).folder.name[-8:]
    assert record.settings == dataclasses.asdict(settings)
    assert tuple(record.curves) == ROW
    assert record.final_top1_percent == numbers[-1]
    assert record.best_top1_percent == max(numbers)
    assert record.median_last5_top1_percent == statistics.median(numbers)
    assert record.train_seconds == pytest.approx(sum(filter(None, record.curves["train_seconds"])))
    assert record.peak_memory_mib is not None
    assert record.peak_memory_mib > 0
    model = torch.load(cell_of(settings).folder / "checkpoint.pt", weights_only=True)["optimizer"]
    shapes = [s["momentum_buffer"].numel() for s in model["state"].values()]
    assert record.parameters == sum(shapes)
    assert record.device is not None
    assert record.device.startswith("cpu")
    assert record.versions["torch"] == torch.__version__
    assert set(record.versions) == {"normbench", "python", "torch"}
    for own in record.learned.values():
        assert set(own) == {"mean_weight", "var_weight"}
        assert all(sum(values) == pytest.approx(1, abs=1e-5) for values in own.values())
    assert len(record.learned) == 7  # the norms of ResNet-8


def test_accuracies_are_multiples_of_an_image(cell: Cell, fit: Fit) -> None:
    record = fit(cell())
    for key, images in (("test_top1_percent", 32), ("train_top1_percent", 64)):
        for value in record.curves[key]:
            assert value is not None
            assert value * images / 100 == pytest.approx(round(value * images / 100), abs=1e-9)


def test_settings_are_kept(cell: Cell, fit: Fit) -> None:
    settings = cell(norm={"name": "gn", "groups": 4, "eps": 1e-6}, epochs=1, milestones=[0.25])
    fit(settings)
    kept = yaml.safe_load((cell_of(settings).folder / SETTINGS).read_text(encoding="utf-8"))
    assert kept == dataclasses.asdict(settings)
    choices = {group: Choice(**kept[group]) for group in ("norm", "model", "dataset")}
    assert Settings(**kept | choices | {"evaluate": Evaluate(**kept["evaluate"])}) == settings


def test_divergence_is_a_result(cell: Cell, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = cell(norm="none", lr=1e9, warmup=0.0, schedule="constant", epochs=5)
    record = fit(settings)
    assert record.status == "diverged"
    assert record.done
    assert len(record.curves["epoch"]) < 5
    assert record.curves["train_loss"][-1] is None
    for value in (
        record.final_top1_percent,
        record.best_top1_percent,
        record.median_last5_top1_percent,
    ):
        assert value is None
    strict((cell_of(settings).folder / RECORD).read_text())
    monkeypatch.setattr(train, "train", None)  # it would fail if it trained again
    assert fit(settings) == record


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("two\n  lines"), "failed"),
        (MemoryError("no more"), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
    ],
)
def test_a_failure_is_written_and_tried_again(
    cell: Cell, fit: Fit, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str
) -> None:
    settings, whole = cell(epochs=2, study="failing"), cell(epochs=2, study="whole")
    steps = 0

    def fail(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:  # in the second of two epochs of four steps
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(step, "project", fail)
        with pytest.raises(type(error)):
            fit(settings)
    record = read_record(cell_of(settings).folder)
    assert record is not None
    assert record.status == status
    assert not record.done
    assert record.error is not None
    assert str(error).split()[0] in record.error
    assert "\n" not in record.error
    assert record.curves["epoch"] == [1]
    assert record.final_top1_percent is None
    again = fit(settings)
    assert again.status == "ok"
    assert again.curves["train_loss"] == fit(whole).curves["train_loss"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"status": "ok"}', '{"new": 1}'])
def test_what_is_no_record_is_no_result(cell: Cell, fit: Fit, content: str) -> None:
    settings = cell(epochs=1)
    cell_of(settings).folder.mkdir(parents=True)
    (cell_of(settings).folder / RECORD).write_text(content)
    assert fit(settings).status == "ok"


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": {"name": "gn", "groups": 7}},
        {"batch": 65, "workers": 1},
        {"norm": {"name": "bn", "group": 3}},
        {"precision": "fp16"},
    ],
)
def test_a_mistake_leaves_nothing(
    cell: Cell, fit: Fit, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(UserError):
        fit(cell(**changes))
    assert list(tmp_path.iterdir()) == []


def test_results_that_cannot_be_written(cell: Cell, fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="results="):
        fit(cell(results="file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_the_longest_batch_is_the_whole_dataset(cell: Cell, fit: Fit) -> None:
    assert fit(cell(batch=64, workers=1, epochs=1)).status == "ok"


OWN = """
from normbench.norms import PlaneNorm, standardize

class Own(PlaneNorm):
    def mix(self, moments):
        return standardize(moments, 1e-5)
"""


class Editor(Display):
    """A display that edits a file at each look at the run."""

    def __init__(self, file: Path) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.file = file

    def step(self, step: int, steps: int) -> None:
        self.file.write_text(self.file.read_text() + "# edited\n")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("fails", [False, True])
def test_an_edit_of_a_norm_of_ones_own_leaves_the_run_in_one_folder(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: bool
) -> None:
    """Checkpoint, metrics, and the record of its end or its failure lie where it began."""
    module = f"edited_{fails}"
    file = tmp_path / f"{module}.py"
    file.write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = cell_of(cell(norm={"name": "custom", "target": f"{module}.Own"}))
    if fails:
        monkeypatch.setattr(Board, "end", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        train.run(made, Editor(file))
    assert {path.parent for path in Path("results").rglob("*") if path.is_file()} == {made.folder}
    record = read_record(made.folder)
    assert record is not None
    assert (record.status, record.identity) == ("failed" if fails else "ok", made.identity)
    assert cell_of(made.settings).folder != made.folder  # the edited norm is another cell
