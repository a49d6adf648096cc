"""The tables of a section as data; every format writes the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from normbench.report.experiment import Experiment, Values
from normbench.report.interval import Estimate, estimate
from normbench.report.published import Published, accuracies, select, where_from
from normbench.report.runs import text
from normbench.report.study import Cell, Section

SHORT = {"evaluate.statistics": "statistics", "norm_stages": "stages"}
Place = tuple[tuple[Any, ...], Any]  # the values of the row keys, the value of the column key


@dataclass
class Table:
    """A title, a header, rows of text of which the first `heads` columns name the row, a note.

    `tidy`: the same as numbers, one mapping a cell, for the CSV file.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    heads: int
    note: str = ""
    ours: bool = True
    tidy: list[dict[str, Any]] = field(default_factory=list)


def tables(experiment: Experiment, section: Section, metric: str) -> list[Table]:
    """Accuracy, paired differences, then what others published; empty ones are left out."""
    made = [accuracy(experiment, section, metric), difference(experiment, section, metric)]
    made += [published(experiment, wanted) for wanted in experiment.published]
    made.append(independent(experiment))
    return [table for table in made if table.rows]


def row_keys(experiment: Experiment) -> list[str]:
    """The keys that make the rows: those of the file, and others where two cells would collide."""
    cells, keys = experiment.cells(), list(experiment.rows)
    for key in experiment.keys:
        taken = {place(cell, keys, experiment.columns) for cell in cells}
        if len(taken) == len(cells):
            break
        if key not in (*keys, experiment.columns):
            more = {place(cell, [*keys, key], experiment.columns) for cell in cells}
            keys += [key] if len(more) > len(taken) else []
    return keys


def place(values: Values, keys: list[str], column: str | None) -> Place:
    return tuple(values.get(key) for key in keys), values.get(column) if column else None


def grid(experiment: Experiment, entries: dict[Place, str], order: Iterable[Place]) -> Table:
    """A table with the rows and columns of `order`, then any further ones of `entries`."""
    keys, column = row_keys(experiment), experiment.columns
    places = [*order, *entries]
    heads = dict.fromkeys(head for head, _ in places if any(head == h for h, _ in entries))
    columns = in_order(
        dict.fromkeys(value for _, value in places if any(value == v for _, v in entries))
    )
    header = [name(key) for key in keys] + [title(column, value) for value in columns]
    rows = [
        [show(key, value) for key, value in zip(keys, head, strict=True)]
        + [entries.get((head, value), "") for value in columns]
        for head in heads
    ]
    return Table("", header, rows, len(keys))


def in_order(columns: Iterable[Any]) -> list[Any]:
    """Numbers by size, falling if the study has them so; words as they come."""
    found = list(columns)
    if not all(isinstance(value, (int, float)) for value in found):
        return found
    return sorted(found, reverse=len(found) > 1 and found[0] > found[1])


def accuracy(experiment: Experiment, section: Section, metric: str) -> Table:
    """Mean ± half-width over seeds, in percent."""
    keys, column = row_keys(experiment), experiment.columns
    entries, tidy = {}, []
    for cell in section.cells:
        found = estimate(list(cell.results(metric).values()))
        entries[place(cell.values, keys, column)] = entry(cell, found, len(section.seeds))
        tidy.append({**cell.values, **numbers(found), **counts(cell, section)})
    table = grid(experiment, entries, entries)
    table.title, table.tidy = "Top-1 accuracy, %", tidy
    return table


def entry(cell: Cell, found: Estimate | None, seeds: int) -> str:
    """`91.20 ± 0.40`, and what else is to be said of the runs of a cell."""
    diverged, failed = cell.count("diverged"), cell.count("failed", "out_of_memory")
    words = [f"{diverged} of {len(cell.runs)} diverged"] if diverged else []
    words += [f"{failed} failed"] if failed else []
    if found is None:
        return ", ".join(words) or "missing"
    words += [f"n = {found.n}"] if found.n < seeds else []
    return pretty(found) + (f" ({', '.join(words)})" if words else "")


def pretty(found: Estimate, sign: str = "") -> str:
    half = "" if found.half is None else f" ± {found.half:.2f}"
    return f"{found.mean:{sign}.2f}{half}".replace("-", "−")


def numbers(found: Estimate | None) -> dict[str, Any]:
    if found is None:
        return {"mean": None, "half_width_95": None, "n": 0}
    return {"mean": found.mean, "half_width_95": found.half, "n": found.n}


def counts(cell: Cell, section: Section) -> dict[str, Any]:
    return {
        "diverged": cell.count("diverged"),
        "failed": cell.count("failed", "out_of_memory"),
        "missing": len(section.seeds) - len(cell.runs),
    }


def difference(experiment: Experiment, section: Section, metric: str) -> Table:
    """Accuracy less that of the baseline at the same seed: mean ± half-width, in points."""
    keys, column = row_keys(experiment), experiment.columns
    entries, tidy = {}, []
    for cell in section.cells:
        base = baseline(experiment, section.cells, cell)
        if base is None or base is cell:
            continue
        ours, theirs = cell.results(metric), base.results(metric)
        found = estimate([ours[seed] - theirs[seed] for seed in ours if seed in theirs])
        if found is not None:
            few = f" (n = {found.n})" if found.n < len(section.seeds) else ""
            entries[place(cell.values, keys, column)] = pretty(found, "+") + few
            tidy.append({**cell.values, **numbers(found)})
    table = grid(experiment, entries, (place(cell.values, keys, column) for cell in section.cells))
    against = " ".join(f"{name(k)}={text(v)}" for k, v in experiment.baseline.items())
    table.title, table.tidy = f"Difference to {against} at the same seed, points", tidy
    return table


def baseline(experiment: Experiment, cells: list[Cell], cell: Cell) -> Cell | None:
    """The cell to compare with: it has the baseline's values and is else the same; where there is
    no such cell, the only one in the same column."""
    wanted, column = experiment.baseline, experiment.columns
    some = [c for c in cells if all(c.values.get(k) == v for k, v in wanted.items())]
    free = (
        {key for key in experiment.keys if key.startswith("norm.")} if "norm" in wanted else set()
    )
    free |= set(wanted)
    equal = [
        c for c in some if all(c.values[k] == v for k, v in cell.values.items() if k not in free)
    ]
    if not equal and column:
        equal = [c for c in some if column in wanted or c.values[column] == cell.values[column]]
    return equal[0] if len(equal) == 1 else None


def published(experiment: Experiment, wanted: Values) -> Table:
    """What a paper's table says, in the places of ours."""
    keys, column = row_keys(experiment), experiment.columns
    found = accuracies(experiment, wanted)
    entries: dict[Place, str] = {}
    digits = max((row.digits for _, row in found), default=0)
    for values, row in found:
        at, quoted = place(values, keys, column), " (quoted)" if row.kind == "quoted" else ""
        shown = row.value if row.top1 is None else f"{row.top1:.{digits}f}{quoted}"
        entries[at] = f"{entries[at]}, {shown}" if at in entries else shown
    order = (place(values, keys, column) for values in experiment.cells())
    table = grid(experiment, entries, order)
    table.ours, rows = False, [row for _, row in found]
    if rows:
        table.title = f"Published: {rows[0].paper}, {rows[0].table}"
        who = "the authors' repository" if rows[0].kind == "authors" else "the paper"
        table.note = f"From {who}: {where_from(rows)}. {rows[0].source}."
    table.tidy = [tidy_published(values, row) for values, row in found]
    return table


def independent(experiment: Experiment) -> Table:
    """What others measured: one line a norm and a network, its numbers by batch, with the source."""
    norms = {cell.get("norm") for cell in experiment.cells()}
    chosen = [row for wanted in experiment.independent for row in select(wanted)]
    found = [(dict(row.cell), row) for row in chosen if row.top1 is not None]
    found = [(values, row) for values, row in found if values["norm"] in norms]
    lines: dict[tuple[str, ...], list[str]] = {}
    for values, row in sorted(found, key=lambda item: -item[0].get("batch", 0)):
        at = (values["norm"], row.model, row.dataset, row.source)
        batch = f"{values['batch']}: " if "batch" in values else ""
        lines.setdefault(at, []).append(batch + row.shown)
    order = {
        name: i for i, name in enumerate(dict.fromkeys(c.get("norm") for c in experiment.cells()))
    }
    rows = [
        [*at[:3], ", ".join(lines[at]), at[3]] for at in sorted(lines, key=lambda at: order[at[0]])
    ]
    header = ["norm", "network", "dataset", "top-1 accuracy, %, by batch", "source"]
    tidy = [tidy_published(values, row) for values, row in found]
    return Table("Measured by others", header, rows, 1, tidy=tidy, ours=False)


def tidy_published(values: Values, row: Published) -> dict[str, Any]:
    about = {"kind": row.kind, "printed": f"{row.metric} {row.value}", "network": row.model}
    return {**values, "mean": row.top1, **about, "dataset": row.dataset, "source": row.source}


def name(key: str) -> str:
    """A key as a table calls it."""
    return SHORT.get(key, key.removeprefix("norm."))


def show(key: str, value: Any) -> str:
    """A value as a table shows it; empty where the row has no such setting."""
    return "all" if key == "norm_stages" and value is None else text(value)


def title(column: str | None, value: Any) -> str:
    """The head of a column: `batch 32`, or a word alone."""
    if column is None:
        return "top-1"
    return (
        show(column, value) if isinstance(value, str) else f"{name(column)} {show(column, value)}"
    )
