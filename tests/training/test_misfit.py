"""A checkpoint that is not one of this run is passed over, in words; none makes anything else happen."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from normbench.data import Dataset
from normbench.errors import FailedError
from normbench.record.display import Display
from normbench.record.record import Record
from normbench.settings.cell import cell_of
from normbench.settings.schema import Settings
from normbench.training import run as train
from normbench.training.checkpoint import NAME, PREVIOUS
from normbench.training.keeper import Keeper
from normbench.training.load import load_run
from normbench.training.loop import Run, epochs
from normbench.training.misfit import misfit

from .test_train_resume import results

Cell = Callable[..., Settings]
Fit = Callable[[Settings], Record]
State = dict[str, Any]
CPU = torch.device("cpu")
STEPS = 4


@pytest.fixture
def kept(cell: Cell, tiny: Dataset) -> tuple[Keeper, State]:
    """The keeper of a run of two epochs, and what it kept after a step of the second."""
    made = cell_of(cell(norm="sn"))
    run = Run.start(made.settings, tiny, CPU)
    made.folder.mkdir(parents=True)
    keeper = Keeper(run, made, [])
    for row in epochs(run, 0, lambda step, steps: None):
        keeper.rows.append(row)
        keeper.save()
        break
    run.done = 1
    keeper.save()
    return keeper, torch.load(made.folder / NAME, weights_only=True)


def wrong(keeper: Keeper, state: Any) -> str:
    return misfit(state, keeper.run.step, keeper.cell.identity, 2, STEPS)


Change = Callable[[State], Any]
WEIGHT = "stem.weight"


def put(*path: Any, value: Any) -> Change:
    """A state with another value somewhere; with ... in place of the value, without it."""

    def change(state: State) -> State:
        holder: Any = state
        for key in path[:-1]:
            holder = holder[key]
        if value is ...:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value
        return state

    return change


CHANGES: dict[str, Change] = {
    "is no checkpoint": lambda state: [state],
    "newer normbench": put("format", value=3),
    "has no rows": put("rows", value=...),
    "of another run": put("identity", value="0a1b2c3d"),
    "3 epochs of 2": lambda state: state | {"rows": 3 * state["rows"]},
    "another epoch": put("rows", 0, "epoch", value=2),
    "not of numbers": put("rows", 0, "test_loss", value="1.0"),
    "that lacks a value": put("rows", 0, "train_seconds", value=...),
    "other weights": put("model", WEIGHT, value=...),
    "of shape (3,)": put("model", WEIGHT, value=torch.zeros(3)),
    "no tensor": put("model", WEIGHT, value=[1.0]),
    "in torch.float64": lambda s: put("model", WEIGHT, value=s["model"][WEIGHT].double())(s),
    "another optimizer": put("optimizer", "param_groups", value=[]),
    "momentum of shape (2,)": put("optimizer", "state", 0, "momentum_buffer", value=torch.ones(2)),
    "loss scaler": put("scaler", value={"scale": 2.0}),
    "step that the epoch does not have": put("within", "steps", value=STEPS + 1),
    "no sums": put("within", "loss_sum", value=torch.zeros(2)),
    "random stream": put("within", "random", value=torch.zeros(5056, dtype=torch.uint8)),
    "where in the epoch": put("within", "correct", value=...),
}


def test_each_difference_has_words(kept: tuple[Keeper, State]) -> None:
    keeper, state = kept
    assert wrong(keeper, state) == ""
    before = {"model": state["model"], "optimizer": state["optimizer"]}
    old = {**before, "scaler": {}, "rows": state["rows"]}
    assert wrong(keeper, old) == ""  # as an older version wrote it
    for words, change in CHANGES.items():
        assert words in wrong(keeper, change(copy.deepcopy(state)))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from([torch.zeros(2), torch.zeros((), dtype=torch.uint8), torch.tensor(1.5)]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_anything_anywhere_is_refused_or_loads(
    kept: tuple[Keeper, State], data: st.DataObject
) -> None:
    keeper, state = kept
    changed: Any = copy.deepcopy(state)
    holder: Any = changed
    while True:
        key = data.draw(
            st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder)))
        )
        inside = isinstance(holder[key], dict | list) and len(holder[key])
        if not inside or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(ANYTHING)
    if not wrong(keeper, changed):
        keeper.run.step.load(changed)


def test_the_previous_takes_the_place_of_a_wrong_one(cell: Cell, fit: Fit, tiny: Dataset) -> None:
    whole = fit(cell(norm="sn", study="whole"))
    made = cell_of(cell(norm="sn"))
    run = Run.start(made.settings, tiny, CPU)
    made.folder.mkdir(parents=True)
    keeper = Keeper(run, made, [])
    row = next(epochs(run, 0, lambda step, steps: None))
    keeper.rows.append(row)
    keeper.save()
    keeper.save()
    torch.save(torch.load(made.folder / NAME) | {"identity": "other"}, made.folder / NAME)
    said = io.StringIO()
    found = train.run(made, Display(Console(file=said, width=400)))
    assert results(found) == results(whole)
    assert "checkpoint.pt is of another run than" in said.getvalue()
    assert (made.folder / f"{NAME}.bad").exists()


def test_only_wrong_ones_are_named_with_the_way_out(
    kept: tuple[Keeper, State], fit: Fit, tmp_path: Any
) -> None:
    keeper, state = kept
    folder = keeper.cell.folder
    for name in (NAME, PREVIOUS):
        torch.save(CHANGES["of shape (3,)"](copy.deepcopy(state)), folder / name)
    with pytest.raises(FailedError, match=r"checkpoint\.pt has stem\.weight of shape .*remove it"):
        fit(keeper.cell.settings)
    for name in (NAME, PREVIOUS):
        (folder / name).unlink()
    assert fit(keeper.cell.settings).status == "ok"
    torch.save(CHANGES["no tensor"](copy.deepcopy(state)), folder / NAME)
    (folder / PREVIOUS).unlink()
    with pytest.raises(ValueError, match=r"no readable checkpoint\.pt: .*no tensor"):
        load_run(folder)
