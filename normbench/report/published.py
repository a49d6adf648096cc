"""Published numbers: published.csv, each row with its source, and which cells they stand beside.

`cell` holds the row's settings in the words of this project, `kind` who measured: paper, authors
(their repository), quoted (by a paper, from another), independent.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from normbench.errors import FailedError
from normbench.report.experiment import Experiment, norm_defaults
from normbench.report.values import Values, plain


@dataclass(frozen=True)
class Published:
    """One published number. `value`: as printed; `top1`: the accuracy in percent, if it is one."""

    paper: str
    table: str
    kind: str
    dataset: str
    model: str
    cell: tuple[tuple[str, Any], ...]
    epochs: str
    metric: str
    value: str
    source: str

    @property
    def top1(self) -> float | None:
        if self.metric not in ("top1_acc", "top1_err"):
            return None
        try:
            number = float(self.value)
        except ValueError:
            return None
        return number if self.metric == "top1_acc" else 100 - number

    @property
    def digits(self) -> int:
        """How many stand behind the point; a table has as many in all its places."""
        return len(self.value.partition(".")[2])

    def shown(self, digits: int, more: str = "", error: bool = False) -> str:
        """The accuracy (or `error`) and what is to be said of it, or the word that was printed in its
        place."""
        if self.top1 is None:
            return self.value
        return f"{100 - self.top1 if error else self.top1:.{digits}f}{more}"


@functools.cache
def everything() -> tuple[Published, ...]:
    """Every row of published.csv."""
    return parsed((files("normbench.report") / "published.csv").read_text(encoding="utf-8"))


def parsed(text: str) -> tuple[Published, ...]:
    """The rows of a file like published.csv. FailedError for a line that is none, which it names."""
    rows, names = csv.DictReader(text.split("\n")), {f.name for f in dataclasses.fields(Published)}
    found = []
    try:
        for row in rows:
            if set(row) != names or None in row.values():
                raise ValueError(f"its columns must be {', '.join(sorted(names))}")
            found.append(Published(**{**row, "cell": pairs(row["cell"])}))  # type: ignore[arg-type]
    except (ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise FailedError(f"published.csv, line {rows.line_num}: {why}") from None
    return tuple(found)


def pairs(text: str) -> tuple[tuple[str, Any], ...]:
    """`norm=gn batch=2` as pairs of key and value."""
    split = (pair.partition("=") for pair in text.split())
    return tuple((key, plain(yaml.safe_load(value))) for key, _, value in split)


def select(wanted: Mapping[str, Any]) -> list[Published]:
    """The rows that a filter of an experiment file names: its `cell` must be among the row's."""
    cell = set(pairs(wanted.get("cell", "")))
    rest = {key: value for key, value in wanted.items() if key != "cell"}
    return [
        row
        for row in everything()
        if cell <= set(row.cell) and all(getattr(row, key) == value for key, value in rest.items())
    ]


def accuracies(experiment: Experiment, wanted: Mapping[str, Any]) -> list[tuple[Values, Published]]:
    """The accuracies that a filter names, each with the study's values of it; those that the study
    cannot place are left out."""
    rows = [row for row in select(wanted) if row.metric in ("top1_acc", "top1_err")]
    placed = ((place(experiment, row), row) for row in rows)
    return [(values, row) for values, row in placed if values is not None]


def place(experiment: Experiment, row: Published) -> Values | None:
    """The values of a published row for the study's keys; where the paper does not say one, the
    study's own if it has only one. None for a norm or an option that the study lacks, or a key left
    open."""
    cells, given = experiment.cells(), dict(row.cell)
    own = norm_defaults(str(given["norm"]))
    strange = {key for key in given if key.startswith("norm.")} - set(experiment.keys)
    if given["norm"] not in {cell.get("norm") for cell in cells}:
        return None
    if any(given[key] != plain(own.get(key[5:])) for key in strange):
        return None
    values = experiment.complete(given)
    for key in experiment.keys:
        known = dict.fromkeys(cell[key] for cell in cells if cell.get("norm") == given["norm"])
        if key not in given and not key.startswith("norm."):
            if len(known) != 1:
                return None
            values[key] = next(iter(known))
        elif key not in given and len(known) == 1:
            values[key] = next(iter(known))
    return values


def where_from(rows: Sequence[Published], error: bool = False) -> str:
    """One line that says what network, data and length the numbers are of."""
    every = [(row.model, row.dataset, row.epochs) for row in rows]
    networks, data, epochs = (
        ", ".join(dict.fromkeys(word for word in words if word))
        for words in zip(*every, strict=True)
    )
    length = f", {epochs} epochs" if epochs else ""
    other, this = ("accuracy", "top1_acc") if error else ("error", "top1_err")
    turned = any(row.metric == this for row in rows)
    return f"{networks} on {data}{length}" + (
        f", printed as {other} and shown as 100 − {other}" if turned else ""
    )
