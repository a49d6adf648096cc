"""A study: the runs laid over the cells that there should be.

Runs that differ in anything but the study's own keys and the seed are never averaged: they make
sections of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from normbench.norms import registry
from normbench.record.record import DONE
from normbench.report.experiment import (
    Experiment,
    metric_for,
    norm_defaults,
    norm_name,
    usual_options,
)
from normbench.report.frames import OF_RECORD
from normbench.report.layout import LAID, laid_out
from normbench.report.store import no_result
from normbench.report.values import Values, keys_of, objects, plain, rows, text, token
from normbench.settings.schema import FIXED_SGD_BATCH

FAILED = ("failed", "out_of_memory")


@dataclass
class Section:
    """Runs of one protocol, network, dataset and recipe.

    `context`: the settings that they share. `cells`: a row a cell as `laid_out` makes it, and
    `shared`: whether it is equal by construction to other cells, and run once for all. `runs`: a row
    for each cell and seed that was run, `cell` being the cell's index. `metric`: of its tables.
    """

    context: Values
    cells: pd.DataFrame
    runs: pd.DataFrame
    seeds: list[int]
    metric: str
    foreign: list[str]  # runs of no cell of the experiment

    @property
    def empty(self) -> bool:
        return self.runs.empty and not self.foreign

    def values(self) -> dict[int, Values]:
        """The values of each cell by override key."""
        found = rows(self.cells.drop(columns=["shared", *LAID]))
        return dict(zip(self.cells.index, found, strict=True))

    def keep(self, some: pd.Series[bool]) -> None:
        """Leaves out the other cells and their runs."""
        self.runs = self.runs[self.runs["cell"].map(some.to_dict()).astype(bool)]
        self.cells = self.cells[some]

    def missing(self) -> list[tuple[Values, int]]:
        """(values, seed) of each run that is not there; one for cells that share theirs."""
        there = set(zip(self.runs["cell"], self.runs["seed"], strict=True))
        absent: dict[tuple[str, int], tuple[Values, int]] = {}
        for cell, values in self.values().items():
            if self.cells.at[cell, "shared"]:
                values |= {key: value for key, value in once(self.context).items() if key in values}
            for seed in self.seeds:
                if (cell, seed) not in there:
                    absent.setdefault((repr(values), seed), (values, seed))
        return list(absent.values())

    def failed(self) -> pd.DataFrame:
        """The runs that failed, each once."""
        bad = self.runs[~self.runs["status"].isin(DONE)]
        return bad.drop_duplicates("run").sort_values("run")

    def count(self, *statuses: str) -> pd.Series[int]:
        """How many runs of each cell ended so."""
        some = self.runs[self.runs["status"].isin(statuses)]
        return some.groupby("cell").size().reindex(self.cells.index, fill_value=0)


def once(context: Values) -> Values:
    """The values under which a cell is run that is equal at every batch."""
    total = context.get("sgd_batch") or FIXED_SGD_BATCH
    return {
        "batch": total, "workers": 1, "evaluate.statistics": "running", "evaluation": "running"
    }  # fmt: skip


def sections(
    experiment: Experiment, runs: pd.DataFrame, seeds: int | None, metric: str
) -> list[Section]:
    """One section for each set of shared settings, the one with most runs first.

    `seeds`: how many there should be, from 0; None: those that were seen.
    """
    if runs.empty:
        planned = experiment.planned()
        seeds = seeds or planned["seeds"]
        context = {k: v for k, v in planned.items() if k not in experiment.keys}
        return [section(experiment, context, runs, seeds, metric)]
    found = sorted(
        groups(experiment, runs.reset_index(drop=True)),
        key=lambda group: (-len(group[1]), str(sorted(group[0].items(), key=str))),
    )
    return [section(experiment, context, some, seeds, metric) for context, some in found]


def groups(experiment: Experiment, runs: pd.DataFrame) -> Iterator[tuple[Values, pd.DataFrame]]:
    """Runs by what they share. One that stands for every batch joins all those that differ from it
    in the evaluation only, which cannot change its result."""
    context = shared_settings(experiment, runs)
    exact = context.groupby(list(context), sort=False).ngroup()
    loose_keys = [key for key in keys_of(context) if not key.startswith("evaluate.")]
    loose = context.groupby(loose_keys, sort=False).ngroup()
    everywhere = stands_for_all(runs)
    own = set(exact[~everywhere])
    alone = exact[everywhere & ~loose.isin(loose[~everywhere])]
    for group in dict.fromkeys([*exact[~everywhere], *alone]):
        members = exact == group
        first = members.idxmax()
        if group in own:
            members = (members & ~everywhere) | (everywhere & (loose == loose[first]))
            first = (members & (exact == group)).idxmax()
        some, values = runs[members], rows(runs.loc[[first]])[0]
        shown = {key: values.get(key) for key in keys_of(context) if context.at[first, key] != ""}
        if values["protocol"] == "fixed":
            shown["sgd_batch"] = values["batch"] * values["workers"]
        yield shown, some


def shared_settings(experiment: Experiment, runs: pd.DataFrame) -> pd.DataFrame:
    """What must be equal for runs to stand in one table, as text: every setting that the study does
    not vary and that can change a result, and the protocol. A norm's option is empty where nobody
    had to ask for its value."""
    unlike = {*experiment.keys, *OF_RECORD, "run", "folder", "seed", *no_result()} - {"protocol"}
    unlike |= {"norm.target"}  # the norm is called by it
    context = objects(runs[[key for key in runs if key not in unlike]]).map(token)
    for norm in runs["norm"].unique():
        own = runs["norm"] == norm
        for key, usual in usual_options(str(norm)).items():
            if f"norm.{key}" in context:
                values = context.loc[own, f"norm.{key}"]
                values[values.isin([token(plain(value)) for value in usual])] = ""
                context.loc[own, f"norm.{key}"] = values
        if not usual_options(str(norm)):  # a norm of the user's own
            for key in keys_of(context, "norm."):
                if context.loc[own, key].nunique() == 1:
                    context.loc[own, key] = ""
    fixed = runs["protocol"] == "fixed"
    context["sgd_batch"] = (runs["batch"] * runs["workers"]).map(str).where(fixed, "")
    for key in {"batch", "workers"} & set(context):
        context.loc[fixed, key] = ""
    return context


def stands_for_all(runs: pd.DataFrame) -> pd.Series[bool]:
    """Which runs are equal by construction to those of other batches of the fixed protocol."""
    stages = runs["norm_stages"].isna() if "norm_stages" in runs else True
    kinds = objects(runs[[*keys_of(runs, "norm."), "norm", "per_image"]])
    words = joined(kinds.map(text))
    first = words.drop_duplicates()
    known = dict(zip(first, map(per_image, rows(kinds.loc[first.index])), strict=True))
    return words.map(known).astype(bool) & (runs["protocol"] == "fixed") & stages


def per_image(values: Values) -> bool:
    """Whether a norm treats each image by itself: as its run says, else by its name and options."""
    if values.get("per_image") is not None:
        return bool(values["per_image"])
    options = {key[5:]: value for key, value in values.items() if key.startswith("norm.")}
    given = {key: value for key, value in options.items() if value is not None}
    name = norm_name(str(values["norm"]))
    return name in registry.NORMS and registry.per_image(name, given)


def section(
    experiment: Experiment, context: Values, runs: pd.DataFrame, seeds: int | None, metric: str
) -> Section:
    """The cells of the experiment with the runs of one context."""
    cells = laid_out(experiment, experiment.cells(), context.get("activation", "auto"))
    cells["shared"] = stands_for_all(as_runs(experiment.cells(), context, runs))
    numbers = list(range(seeds)) if seeds else sorted({int(seed) for seed in runs["seed"]}) or [0]
    index = places(cells[experiment.keys], cells["shared"], context)
    if runs.empty:
        found, foreign = runs.assign(cell=[]), []
    else:
        at = places(runs.reindex(columns=experiment.keys), stands_for_all(runs), context)
        some = runs.assign(_at=at)[runs["seed"].isin(numbers)]
        found = index.rename("_at").rename_axis("cell").reset_index().merge(some, on="_at")
        found = found.sort_values(["cell", "seed", "workers", "run"])
        found = found.drop_duplicates(["cell", "seed"]).drop(columns="_at").reset_index(drop=True)
        foreign = sorted(set(some["run"]) - set(found["run"]))
    chosen = metric_for(metric, context.get("epochs"))
    return Section(context, cells, found, numbers, chosen, foreign)


def as_runs(cells: list[Values], context: Values, runs: pd.DataFrame) -> pd.DataFrame:
    """The cells as rows of settings, as a run of each would have them; what a user's norm says of
    itself is known from the runs."""
    says = runs.dropna(subset=["per_image"])
    known = dict(zip(says["norm"], says["per_image"], strict=True))
    found = []
    for cell in cells:
        given = {**context, **{key: value for key, value in cell.items() if value is not None}}
        name = str(given.get("norm"))
        own = {f"norm.{key}": plain(value) for key, value in norm_defaults(name).items()}
        said = None if norm_name(name) in registry.NORMS else known.get(name)
        found.append({"norm_stages": None, **own, **given, "norm": name, "per_image": said})
    return pd.DataFrame(found, dtype=object)


def places(words: pd.DataFrame, shared: pd.Series[bool], context: Values) -> pd.Series[str]:
    """What a cell and its runs have in common, as text."""
    words = objects(words).map(token)
    for key, value in once(context).items():
        if key in words:
            words.loc[shared, key] = token(value)
    return joined(words)


def joined(words: pd.DataFrame) -> pd.Series[str]:
    """The texts of each row as one."""
    lines = ["\n".join(line) for line in words.itertuples(index=False, name=None)]
    return pd.Series(lines, index=words.index, dtype=object)
