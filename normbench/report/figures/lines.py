"""What figures draw: frames with a row a point, `row` naming its line and `column` its place on it."""

from __future__ import annotations

import pandas as pd

from normbench.report.document import Document
from normbench.report.layout import laid_out
from normbench.report.published import accuracies
from normbench.report.tables import estimates

LACKS = "the study has no"  # how a figure begins to say why it is not drawn


def ours(document: Document) -> pd.DataFrame:
    """The cells of the first section that have runs, with their error in percent: `mean`, `half`
    (of the interval, missing for one seed) and `n`; missing where no run has a result."""
    section = document.parts[0].section
    cells = section.cells.copy()
    found = estimates(section, 100 - section.runs[section.metric].astype(float))
    for key in ("mean", "half", "n"):
        values = {cell: getattr(one, key) for cell, one in found.items()}
        cells[key] = pd.Series(values, dtype=float).reindex(cells.index)
    there = set(section.runs["cell"])
    return cells[[cell in there for cell in cells.index]]


def theirs(document: Document) -> tuple[str, pd.DataFrame]:
    """Title and errors of the first published table that has a row with more than one column."""
    experiment = document.experiment
    for wanted in experiment.published:
        found = [pair for pair in accuracies(experiment, wanted) if pair[1].top1 is not None]
        lines = laid_out(experiment, [values for values, _ in found])
        lines["mean"] = [100 - (row.top1 or 0) for _, row in found]
        lines = lines.drop_duplicates(["row", "column"], keep="last")
        lines = lines.assign(half=None, shared=False)
        if lines.groupby("row").size().max() > 1:
            first = found[0][1]
            return f"{first.paper}, {first.table}\n({first.model}, {first.dataset})", lines
    return "", pd.DataFrame(columns=["row", "column", "mean", "half", "shared"])


def joined(document: Document, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame that belong to runs of the first section, in the order of its cells, each
    with `row`, `column` and `shared`; rows of a run that stands in several cells come for each."""
    section = document.parts[0].section
    runs = section.runs[["run", "cell", "seed"]]
    places = section.cells[["row", "column", "shared"]]
    runs = runs.merge(places, left_on="cell", right_index=True)
    return runs.merge(frame, on="run").sort_values(["cell", "seed"], kind="stable")


def parameter(document: Document, name: str) -> pd.DataFrame:
    """What the runs of the first section learned under a name, as `joined` has it; `depth` counts the
    layers from 1."""
    learned = document.frames.learned
    found = joined(document, learned[learned["parameter"] == name])
    layers = {layer: i for i, layer in enumerate(dict.fromkeys(found["layer"]), start=1)}
    return found.assign(depth=found["layer"].map(layers))
