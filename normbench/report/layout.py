"""Which row and column of a table a cell has, and what rows, columns and settings are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from normbench.report.experiment import Experiment, norm_defaults
from normbench.report.values import Values, plain, text, token

SHORT = {
    "evaluate.statistics": "statistics",
    "evaluation": "statistics",
    "norm_stages": "stages",
    "weight_standardization": "ws",
}
LAID = ["head", "row", "column"]  # what `laid_out` adds


def row_keys(experiment: Experiment) -> list[str]:
    """The keys that make the rows: those of the file, and others where two cells would collide."""
    cells = pd.DataFrame(experiment.cells(), columns=experiment.keys, dtype=object).map(token)
    keys, column = list(experiment.rows), [experiment.columns] if experiment.columns else []

    def places(some: Sequence[str]) -> int:
        return len(cells.reindex(columns=[*some, *column]).drop_duplicates())

    for key in experiment.keys:
        if key not in (*keys, *column) and places(keys) < len(cells):
            keys += [key] if places([*keys, key]) > places(keys) else []
    return keys


def laid_out(experiment: Experiment, cells: Sequence[Values]) -> pd.DataFrame:
    """A row a cell: its values, `head` (the texts that begin its row, as a tuple), `row` (its name in
    a figure) and `column` (the value of the column's key)."""
    keys, frame = row_keys(experiment), pd.DataFrame(cells, columns=experiment.keys, dtype=object)
    laid = [
        {
            "head": tuple(show(key, cell.get(key)) for key in keys),
            "row": row_name({key: cell.get(key) for key in keys}),
            "column": cell.get(experiment.columns or ""),
        }
        for cell in cells
    ]
    return frame.join(pd.DataFrame(laid, columns=LAID, index=frame.index, dtype=object))


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


def row_name(given: Values) -> str:
    """`bn`, `gn + ws`, `bn, 1 worker`, or `rbn, scaling=false`; defaults go without saying."""
    own = norm_defaults(str(given.get("norm", "")))
    standardized = " + ws" if given.get("weight_standardization") else ""
    words = []
    for key, value in given.items():
        if value is None or (key[:5] == "norm." and value == plain(own.get(key[5:]))):
            continue
        if key == "norm":
            words.append(show(key, value) + standardized)
        elif key == "weight_standardization" and "norm" in given:
            continue
        elif key == "workers":
            words.append(f"{value} worker{'s' if value != 1 else ''}")
        else:
            words.append(f"{name(key)}={show(key, value)}")
    return ", ".join(words)


def in_order(columns: Sequence[Any]) -> list[Any]:
    """Numbers by size, falling if the study has them so; words as they come."""
    found = list(dict.fromkeys(columns))
    if not all(isinstance(value, (int, float)) for value in found):
        return found
    return sorted(found, reverse=len(found) > 1 and found[0] > found[1])
