"""What figures draw: one line for each row of the table, its points those of the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from normbench.report.document import Document
from normbench.report.experiment import frozen, norm_defaults
from normbench.report.interval import Estimate, estimate
from normbench.report.published import accuracies
from normbench.report.study import Cell
from normbench.report.tables import name, place, row_keys, show


@dataclass
class Line:
    """A row by name, its cells or estimates by the value of the column, in the order of the study."""

    name: str
    shared: bool = False
    cells: dict[Any, Cell] = field(default_factory=dict)
    errors: dict[Any, Estimate] = field(default_factory=dict)  # error in percent


def ours(document: Document) -> list[Line]:
    """The rows of the first section, those with any run, with their errors in percent."""
    experiment, lines = document.experiment, dict[str, Line]()
    keys = row_keys(experiment)
    for cell in document.parts[0].section.cells:
        head, column = place(cell.values, keys, experiment.columns)
        line = lines.setdefault(row_name(keys, head), Line(row_name(keys, head), cell.shared))
        found = estimate([100 - value for value in cell.results(document.metric).values()])
        if cell.runs:
            line.cells[column] = cell
        if found is not None:
            line.errors[column] = found
    return [line for line in lines.values() if line.cells]


def theirs(document: Document) -> tuple[str, list[Line]]:
    """Title and rows of the first published table that has more than one column."""
    experiment = document.experiment
    keys = row_keys(experiment)
    for wanted in experiment.published:
        lines, rows = dict[str, Line](), []
        for values, row in accuracies(experiment, wanted):
            head, column = place(values, keys, experiment.columns)
            if row.top1 is not None:
                line = lines.setdefault(row_name(keys, head), Line(row_name(keys, head)))
                line.errors[column] = Estimate(100 - row.top1, None, 1)
                rows.append(row)
        if any(len(line.errors) > 1 for line in lines.values()):
            return f"{rows[0].paper}, {rows[0].table}\n({rows[0].model}, {rows[0].dataset})", list(
                lines.values()
            )
    return "", []


def row_name(keys: Sequence[str], head: Sequence[Any]) -> str:
    """`bn`, `bn, 1 worker`, or `rbn, scaling=false`; a norm's defaults go without saying."""
    given = dict(zip(keys, head, strict=True))
    own = norm_defaults(str(given.get("norm", "")))
    words = []
    for key, value in given.items():
        if value is None or (key[:5] == "norm." and value == frozen(own.get(key[5:]))):
            continue
        if key == "workers":
            words.append(f"{value} worker{'s' if value != 1 else ''}")
        else:
            words.append(show(key, value) if key == "norm" else f"{name(key)}={show(key, value)}")
    return ", ".join(words)


def layers(cell: Cell, key: str) -> dict[str, list[list[float]]]:
    """What the cell's runs learned under `key`: by layer, in the network's order, a list a run."""
    found: dict[str, list[list[float]]] = {}
    for run in cell.runs.values():
        for layer, own in run.record.learned.items():
            if key in own:
                found.setdefault(layer, []).append(own[key])
    return found
