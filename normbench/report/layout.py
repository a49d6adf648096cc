"""Which row and column of a table a cell has, and what rows, columns and settings are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from normbench.report import names
from normbench.report.experiment import Experiment, norm_defaults
from normbench.report.values import Values, text, token

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


def laid_out(
    experiment: Experiment, cells: Sequence[Values], activation: Any = "auto"
) -> pd.DataFrame:
    """A row a cell: its values, `head` (the texts that begin its row, as a tuple), `row` (its name in
    a figure) and `column` (the value of the column's key). activation: of all cells, where the study
    does not vary it; a cell's own goes before it."""
    keys, frame = row_keys(experiment), pd.DataFrame(cells, columns=experiment.keys, dtype=object)
    varied = "activation" in experiment.keys
    laid = [
        {
            "head": tuple(show(key, cell.get(key)) for key in keys),
            "row": names.row(
                {key: cell.get(key) for key in keys},
                unsaid(experiment, str(cell.get("norm", ""))),
                None if varied else cell.get("activation", activation),
            ).replace("$", r"\$"),  # in a figure a $ alone would begin a formula
            "column": cell.get(experiment.columns or ""),
        }
        for cell in cells
    ]
    return frame.join(pd.DataFrame(laid, columns=LAID, index=frame.index, dtype=object))


def unsaid(experiment: Experiment, norm: str) -> Values:
    """The defaults of a norm that go without saying: all but numbers of which the study has several."""
    own = [cell for cell in experiment.cells() if cell.get("norm") == norm]
    several = {k for k in experiment.keys if len({cell[k] for cell in own}) > 1}
    defaults = norm_defaults(norm)
    return {
        k: v for k, v in defaults.items() if f"norm.{k}" not in several or not isinstance(v, float)
    }


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


def in_order(columns: Sequence[Any]) -> list[Any]:
    """Numbers by size, falling if the study has them so; words as they come."""
    found = list(dict.fromkeys(columns))
    if not all(isinstance(value, (int, float)) for value in found):
        return found
    return sorted(found, reverse=len(found) > 1 and found[0] > found[1])
