"""The tables of a section as data; every format writes the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from normbench.report import names
from normbench.report.experiment import Experiment
from normbench.report.interval import Estimate, estimate
from normbench.report.layout import in_order, laid_out, name, row_keys, title
from normbench.report.published import accuracies, select, where_from
from normbench.report.study import FAILED, Section
from normbench.report.values import Values


@dataclass
class Table:
    """A title, a header, rows of text of which the first `heads` columns name the row, a note.

    `tidy`: the same as numbers, one mapping a cell, for the CSV file. `best`: the places (row, column)
    of the best value of each column that has several.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    heads: int
    note: str = ""
    ours: bool = True
    tidy: list[dict[str, Any]] = field(default_factory=list)
    best: set[tuple[int, int]] = field(default_factory=set)


def tables(experiment: Experiment, section: Section, error: bool = False) -> list[Table]:
    """Accuracy (or `error`), paired differences, then what others published; empty ones are left
    out."""
    made = [accuracy(experiment, section, error), difference(experiment, section, error)]
    made += [published(experiment, wanted, error) for wanted in experiment.published]
    made.append(independent(experiment, error))
    return [table for table in made if table.rows]


def grid(
    experiment: Experiment, entries: pd.DataFrame, order: pd.DataFrame, heads: Sequence[str] = ()
) -> Table:
    """`entries` (head, column, entry, and where there is a best one `good`, higher being better) as a
    table, rows and columns in the order of `order`, then any further ones. `heads`: what heads each
    row beside the keys of the study."""
    every = pd.concat([order[["head", "column"]], entries[["head", "column"]]])
    there = every[every["head"].isin(list(entries["head"]))]["head"].drop_duplicates()
    known = [value for value in every["column"] if value in list(entries["column"])]
    columns, found = in_order(known), dict[tuple[Any, Any], str]()
    good: dict[tuple[Any, Any], float] = {}
    for head, column, entry, value in entries.reindex(
        columns=["head", "column", "entry", "good"]
    ).itertuples(index=False):
        before = f"{found[head, column]}, " if (head, column) in found else ""
        found[head, column] = before + entry
        good[head, column] = max(value, good.get((head, column), value))
    first = [name(key) for key in row_keys(experiment)] + list(heads)
    header = first + [title(experiment.columns, value) for value in columns]
    lines = [[*head, *(found.get((head, value), "") for value in columns)] for head in there]
    made = Table("", header, lines, len(first))
    for i, column in enumerate(columns):
        values = [good.get((head, column), math.nan) for head in there]
        known_values = [value for value in values if not math.isnan(value)]
        if len(known_values) > 1:
            best = {row for row, value in enumerate(values) if value == max(known_values)}
            made.best |= {(row, len(first) + i) for row in best}
    return made


def numbers(found: Estimate | None) -> Values:
    """An estimate as columns of table.csv."""
    if found is None:
        return {"mean": None, "half_width_95": None, "n": 0}
    return {"mean": found.mean, "half_width_95": found.half, "n": found.n}


def pretty(found: Estimate, sign: str = "", digits: int = 2) -> str:
    half = "" if found.half is None else f" ± {found.half:.{digits}f}"
    return f"{found.mean:{sign}.{digits}f}{half}".replace("-", "−")


def estimates(section: Section, values: pd.Series[float]) -> dict[int, Estimate]:
    """Mean and interval over seeds of each cell that has any value; one value a row of its runs."""
    known = values.dropna().astype(float)
    grouped = known.groupby(section.runs.loc[known.index, "cell"])
    found = {int(str(cell)): estimate(list(some)) for cell, some in grouped}
    return {cell: one for cell, one in found.items() if one is not None}


def accuracy(experiment: Experiment, section: Section, error: bool = False) -> Table:
    """Mean ± half-width over seeds, in percent."""
    found = estimates(section, shown(section.runs[section.metric], error))
    diverged, failed = section.count("diverged"), section.count(*FAILED)
    there = section.count(*section.runs["status"].unique())
    cells, entries, tidy, good = section.cells, [], [], []
    for cell, values in section.values().items():
        counts = {"diverged": diverged[cell], "failed": failed[cell]}
        one, runs = found.get(cell), int(there[cell])
        entries.append(entry(one, len(section.seeds), runs, **counts))
        good.append(math.nan if one is None else round(-one.mean if error else one.mean, 2))
        missing = len(section.seeds) - runs
        tidy.append({**values, **numbers(one), **counts, "missing": missing})
    table = grid(experiment, cells.assign(entry=entries, good=good), cells)
    table.title, table.tidy = f"Top-1 {'error' if error else 'accuracy'}, %", tidy
    return table


def shown(accuracies: pd.Series[float], error: bool) -> pd.Series[float]:
    """Accuracies in percent, or as errors."""
    return 100 - accuracies if error else accuracies


def entry(found: Estimate | None, seeds: int, runs: int, diverged: int, failed: int) -> str:
    """`91.20 ± 0.40`, and what else is to be said of the runs of a cell."""
    words = [f"{diverged} of {runs} diverged"] if diverged else []
    words += [f"{failed} failed"] if failed else []
    if found is None:
        return ", ".join(words) or "missing"
    words += [f"n = {found.n}"] if found.n < seeds else []
    return pretty(found) + (f" ({', '.join(words)})" if words else "")


def difference(experiment: Experiment, section: Section, error: bool = False) -> Table:
    """Accuracy (or `error`) less that of the baseline at the same seed: mean ± half-width, in points."""
    values_of_runs = shown(section.runs[section.metric], error)
    found = estimates(section, paired(experiment, section, values_of_runs))
    some, values = section.cells.loc[sorted(found)], section.values()
    few = {
        cell: f" (n = {one.n})" if one.n < len(section.seeds) else "" for cell, one in found.items()
    }
    entries = [pretty(found[cell], "+") + few[cell] for cell in some.index]
    table = grid(experiment, some.assign(entry=entries), section.cells)
    table.title = f"Difference to {against(experiment)} at the same seed, points"
    table.tidy = [{**values[cell], **numbers(found[cell])} for cell in some.index]
    return table


def against(experiment: Experiment) -> str:
    """The baseline in words: `BN`, `8 groups`."""
    return names.row(experiment.baseline, {})


def paired(experiment: Experiment, section: Section, values: pd.Series[float]) -> pd.Series[float]:
    """The values of the section's runs less that of the baseline's run with the same seed; missing
    where there is no such run."""
    runs = section.runs[["cell", "seed"]].assign(value=values)
    base = runs.assign(cell=runs["cell"].map(baselines(experiment, section.values())))
    both = base.merge(runs, how="left", on=["cell", "seed"])
    less: pd.Series[float] = both["value_x"] - both["value_y"]
    return less.set_axis(runs.index)


def baselines(experiment: Experiment, cells: dict[int, Values]) -> dict[int, int]:
    """The cell that each is compared with: it has the baseline's values and is else the same; where
    there is no such cell, the only one in the same column. A cell is not compared with itself."""
    wanted, column, found = experiment.baseline, experiment.columns, {}
    some = [i for i, cell in cells.items() if all(cell.get(k) == v for k, v in wanted.items())]
    bound = [key for key in experiment.keys if key not in wanted]
    bound = [key for key in bound if "norm" not in wanted or not key.startswith("norm.")]
    for index, cell in cells.items():
        equal = [i for i in some if all(cells[i][key] == cell[key] for key in bound)]
        if not equal and column:
            equal = [i for i in some if column in wanted or cells[i][column] == cell[column]]
        if len(equal) == 1 and equal != [index]:
            found[index] = equal[0]
    return found


def published(experiment: Experiment, wanted: Values, error: bool = False) -> Table:
    """What a paper's table says, in the places of ours."""
    found = accuracies(experiment, wanted)
    printed = [row for _, row in found]
    digits = max((row.digits for row in printed), default=0)
    quoted = [" (quoted)" if row.kind == "quoted" else "" for row in printed]
    words = [row.shown(digits, more, error) for row, more in zip(printed, quoted, strict=True)]
    good = [math.nan if row.top1 is None else round(row.top1, digits) for row in printed]
    entries = laid_out(experiment, [values for values, _ in found]).assign(entry=words, good=good)
    table = grid(experiment, entries, laid_out(experiment, experiment.cells()))
    table.ours = False
    if printed:
        table.title = f"Published: {printed[0].paper}, {printed[0].table}"
        who = "the authors' repository" if printed[0].kind == "authors" else "the paper"
        table.note = f"From {who}: {where_from(printed, error)}. {printed[0].source}."
    table.tidy = [tidy_published(values, row, error) for values, row in found]
    return table


def independent(experiment: Experiment, error: bool = False) -> Table:
    """What others measured: one line a norm and a network, its numbers by batch, with the source."""
    norms = list(dict.fromkeys(cell.get("norm") for cell in experiment.cells()))
    chosen = [row for wanted in experiment.independent for row in select(wanted)]
    found = [(dict(row.cell), row) for row in chosen if row.top1 is not None]
    found = [(values, row) for values, row in found if values["norm"] in norms]
    lines: dict[tuple[str, ...], list[str]] = {}
    for values, row in sorted(found, key=lambda item: -item[0].get("batch", 0)):
        standardized = " + ws" if values.get("weight_standardization") else ""
        at = (values["norm"] + standardized, row.model, row.dataset, row.source)
        batch = f"{values['batch']}: " if "batch" in values else ""
        lines.setdefault(at, []).append(batch + row.shown(row.digits, error=error))
    ordered = sorted(lines, key=lambda at: norms.index(at[0].split()[0]))
    body = [[*at[:3], ", ".join(lines[at]), at[3]] for at in ordered]
    measure = "error" if error else "accuracy"
    header = ["norm", "network", "dataset", f"top-1 {measure}, %, by batch", "source"]
    tidy = [tidy_published(values, row, error) for values, row in found]
    return Table("Measured by others", header, body, 1, tidy=tidy, ours=False)


def tidy_published(values: Values, row: Any, error: bool) -> Values:
    about = {"kind": row.kind, "printed": f"{row.metric} {row.value}", "network": row.model}
    mean = 100 - row.top1 if error and row.top1 is not None else row.top1
    return {**values, "mean": mean, **about, "dataset": row.dataset, "source": row.source}
