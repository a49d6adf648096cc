"""A study: the records laid over the cells that there should be.

Runs that differ in anything but the study's own keys and the seed are never averaged: they make
sections of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from normbench.norms.registry import NORMS, per_image
from normbench.report.experiment import Experiment, Values, norm_defaults, usual_options
from normbench.report.runs import NO_RESULT, Run
from normbench.settings.schema import FIXED_SGD_BATCH


@dataclass
class Cell:
    """One place of the table: its values by override key, its runs by seed."""

    values: Values
    runs: dict[int, Run] = field(default_factory=dict)
    shared: bool = False  # equal by construction to other cells, and run once for all

    def results(self, metric: str) -> dict[int, float]:
        """Percent by seed, of the runs that did not diverge or fail."""
        found = ((seed, getattr(run.record, metric)) for seed, run in sorted(self.runs.items()))
        return {seed: value for seed, value in found if value is not None}

    def count(self, *statuses: str) -> int:
        return sum(run.record.status in statuses for run in self.runs.values())


@dataclass
class Section:
    """Runs of one protocol, network, dataset and recipe. `context`: the settings they share."""

    context: Values
    cells: list[Cell]
    seeds: list[int]
    foreign: list[Run] = field(default_factory=list)  # of no cell of the experiment

    def missing(self) -> list[tuple[Values, int]]:
        """(values, seed) of each run that is not there; one for cells that share theirs."""
        absent: dict[tuple[Any, ...], tuple[Values, int]] = {}
        for cell in self.cells:
            values = shared_values(cell.values, self.context) if cell.shared else cell.values
            for seed in self.seeds:
                if seed not in cell.runs:
                    absent.setdefault((*values.items(), seed), (values, seed))
        return list(absent.values())

    def failed(self) -> list[Run]:
        """The runs that failed, each once."""
        every = {run.folder: run for cell in self.cells for run in cell.runs.values()}
        return [every[folder] for folder in sorted(every) if not every[folder].record.done]


def sections(experiment: Experiment, runs: Iterable[Run], seeds: int | None) -> list[Section]:
    """One section for each set of shared settings, the one with most runs first.

    `seeds`: how many there should be, from 0; None: those that were seen.
    """
    groups = by_context(experiment, runs)
    if not groups:
        shown = ("protocol", "sgd_batch")
        fixed = {key: experiment.settings[key] for key in shown if key in experiment.settings}
        return [section(experiment, fixed, [], seeds)]
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), str(item[0])))
    return [section(experiment, dict(context), group, seeds) for context, group in ordered]


def by_context(experiment: Experiment, runs: Iterable[Run]) -> dict[tuple[Any, ...], list[Run]]:
    """Runs by what they share. One that stands for every batch joins all those that differ from it
    in the evaluation only, which cannot change its result."""
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    everywhere: list[tuple[tuple[Any, ...], Run]] = []
    for run in runs:
        context = context_of(experiment, run)
        key = tuple(sorted(context.items(), key=lambda item: item[0]))
        if is_shared(run.values, context):
            everywhere.append((key, run))
        else:
            groups[key].append(run)
    for key, run in everywhere:
        alike = [other for other in groups if less_evaluation(other) == less_evaluation(key)]
        for other in alike or [key]:
            groups[other].append(run)
    return groups


def less_evaluation(key: tuple[Any, ...]) -> list[Any]:
    return [item for item in key if not item[0].startswith("evaluate.")]


def section(experiment: Experiment, context: Values, runs: list[Run], seeds: int | None) -> Section:
    """The cells of the experiment with the runs of one context."""
    by_key: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        values = {key: run.values.get(key) for key in experiment.keys}
        by_key[lookup(values, run.values, context)].append(run)
    numbers = list(range(seeds)) if seeds else sorted({run.seed for run in runs}) or [0]
    made = Section(context, [], numbers)
    for values in experiment.cells():
        defaults = {f"norm.{k}": v for k, v in norm_defaults(str(values.get("norm"))).items()}
        shared = is_shared({**defaults, **values}, context)
        key = lookup(values, {**defaults, **values}, context)
        own = sorted(by_key.get(key, []), key=lambda run: (run.values["workers"], run.folder))
        found = {run.seed: run for run in reversed(own)}
        made.cells.append(Cell(values, {s: found[s] for s in numbers if s in found}, shared))
    known = {run.folder for cell in made.cells for run in cell.runs.values()}
    made.foreign = [run for run in runs if run.folder not in known and run.seed in numbers]
    return made


def context_of(experiment: Experiment, run: Run) -> Values:
    """What must be equal for runs to stand in one table: everything that the study does not vary."""
    values, keys = run.values, set(experiment.keys)
    own = usual_options(str(values["norm"]))
    rest = {
        key: value
        for key, value in values.items()
        if key not in keys
        and key not in NO_RESULT
        and key != "seed"
        and not (
            key.startswith("norm.")
            and any(same(value, default) for default in own.get(key[5:], ()))
        )
    }
    if values["protocol"] == "fixed":
        rest["sgd_batch"] = values["batch"] * values["workers"]
        for key in ("batch", "workers"):
            rest.pop(key, None)
    return rest


def same(value: Any, default: Any) -> bool:
    return bool(value == (tuple(default) if isinstance(default, list) else default))


def pools(values: Values) -> bool:
    """Whether a run's result depends on which images share a worker."""
    if values.get("norm_stages") is not None:
        return True
    if values.get("per_image") is not None:  # the run has said so
        return not values["per_image"]
    options = {key[5:]: value for key, value in values.items() if key.startswith("norm.")}
    return values["norm"] not in NORMS or not per_image(str(values["norm"]), options)


def is_shared(values: Values, context: Values) -> bool:
    """Whether a cell is equal by construction to those of other batches, and run once."""
    everywhere = context.get("norm_stages") is None
    return context.get("protocol") == "fixed" and everywhere and not pools(values)


def shared_values(values: Values, context: Values) -> Values:
    """The values under which a shared cell is run."""
    batch = context.get("sgd_batch") or FIXED_SGD_BATCH
    instead = {"batch": batch, "workers": 1, "evaluate.statistics": "running"}
    return {key: instead.get(key, value) for key, value in values.items()}


def lookup(values: Values, every: Values, context: Values) -> tuple[Any, ...]:
    """What a cell and its runs have in common."""
    if is_shared(every, context):
        return tuple(shared_values({**every, **values}, context)[key] for key in values)
    return tuple(values.values())
