"""What figures draw: frames with a row a point, `row` naming its line and `column` its place on it;
and the sentences of captions that say what the points are."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from normbench.report import names
from normbench.report.document import Document
from normbench.report.facts import seeds
from normbench.report.figures.style import Look, look
from normbench.report.layout import laid_out
from normbench.report.published import accuracies
from normbench.report.tables import estimates

LACKS = "the study has no"  # how a figure begins to say why it is not drawn
INTERVAL_FROM = 3  # seeds; of fewer the points are shown: an interval of two would fill the panel


def ours(document: Document) -> pd.DataFrame:
    """The cells of the first section that have runs, with `mean` in percent, as error or accuracy,
    `half` (of the interval; missing for fewer than three seeds), `n`, and `seeds`, each one's value;
    missing where no run has a result."""
    section = document.parts[0].section
    cells = section.cells.copy()
    values = as_shown(document, section.runs[section.metric])
    found = estimates(section, values)
    for key in ("mean", "half", "n"):
        known = {cell: getattr(one, key) for cell, one in found.items()}
        cells[key] = pd.Series(known, dtype=float).reindex(cells.index)
    cells["half"] = cells["half"].where(cells["n"] >= INTERVAL_FROM)
    single = values.groupby(section.runs["cell"]).agg(list)
    cells["seeds"] = pd.Series({cell: single.get(cell, []) for cell in cells.index}, dtype=object)
    there = set(section.runs["cell"])
    return cells[[cell in there for cell in cells.index]]


def theirs(document: Document) -> tuple[str, pd.DataFrame]:
    """Title and points of the first published table that has a row with more than one column."""
    experiment = document.experiment
    for wanted in experiment.published:
        found = [pair for pair in accuracies(experiment, wanted) if pair[1].top1 is not None]
        said = [{"activation": None, **dict(row.cell), **values} for values, row in found]
        lines = laid_out(experiment, said)
        lines["mean"] = as_shown(document, pd.Series([row.top1 for _, row in found]))
        lines = lines.drop_duplicates(["row", "column"], keep="last")
        lines = lines.assign(
            half=None,
            shared=False,
            n=1,
            seeds=pd.Series([[]] * len(lines), lines.index, dtype=object),
        )
        if lines.groupby("row").size().max() > 1:
            first = found[0][1]
            return f"{first.paper}, {first.table}\n({first.model}, {first.dataset})", lines
    return "", pd.DataFrame(columns=["row", "column", "mean", "half", "shared", "n", "seeds"])


def joined(document: Document, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame that belong to runs of the first section, in the order of its cells, each
    with `row`, `column`, `norm` and `shared`; rows of a run that stands in several cells come for
    each."""
    section = document.parts[0].section
    runs = section.runs[["run", "cell", "seed"]]
    places = section.cells.reindex(columns=["row", "column", "norm", "shared"])
    runs = runs.merge(places, left_on="cell", right_index=True)
    return runs.merge(frame, on="run").sort_values(["cell", "seed"], kind="stable")


def parameter(document: Document, name: str) -> pd.DataFrame:
    """What the runs of the first section learned under a name, as `joined` has it; `depth` counts the
    layers from 1."""
    learned = document.frames.learned
    found = joined(document, learned[learned["parameter"] == name])
    layers = {layer: i for i, layer in enumerate(dict.fromkeys(found["layer"]), start=1)}
    return found.assign(depth=found["layer"].map(layers))


def looks(document: Document, *more: pd.DataFrame) -> dict[str, Look]:
    """How each row of the first section is drawn, run or not, so that a figure looks the same while a
    study grows; and each row of `more` frames."""
    norms: dict[str, str] = {}
    for frame in (document.parts[0].section.cells, *more):
        for row, norm in zip(frame["row"], frame.get("norm", frame["row"]), strict=True):
            norms.setdefault(str(row), str(norm))
    return look(norms)


def as_shown(document: Document, top1: Any) -> pd.Series[float]:
    """Accuracies in percent as the figures show them: errors, unless accuracies are asked for."""
    values: pd.Series[float] = top1.astype(float)
    return values if document.view.measure == "accuracy" else 100 - values


def measure(document: Document, images: str = "test") -> str:
    """The name of what `as_shown` gives: `test error`, `training error`, `error on held-out images`."""
    word = document.view.measure or "error"
    held_out = document.parts[0].section.context.get("dataset.validation")
    return f"{word} on held-out images" if held_out and images == "test" else f"{images} {word}"


def points(axes: Axes, x: Any, values: Any, colour: str, sideways: bool = False) -> None:
    """The values of single seeds as small circles, where they are two."""
    style: dict[str, Any] = {"marker": "o", "markersize": 2.2, "fillstyle": "none", "linestyle": ""}
    for place, some in zip(x, values, strict=True):
        if len(some) == INTERVAL_FROM - 1:
            both = [[place] * len(some), some]
            axes.plot(
                *(both[::-1] if sideways else both), color=colour, markeredgewidth=0.6, **style
            )


def about(document: Document) -> str:
    """The last sentence of a caption: network, data, length, seeds."""
    section = document.parts[0].section
    c = section.context
    words = [names.network(c["model"])] if "model" in c else ["Networks as named"]
    words += [f"on {names.dataset(c['dataset'])}"] if "dataset" in c else []
    length = [names.setting("epochs", c["epochs"])] if "epochs" in c else []
    return f"{', '.join([' '.join(words), *length, seeds(section.seeds)])}."


def interval(n: Any) -> str:
    """What bars and points are; `n`: the seeds of each cell or line."""
    most, least = int(n.max()), int(n.min())
    if most == 1:
        return " One seed."
    if most < INTERVAL_FROM:
        return " Means of two seeds; circles are the seeds."
    few = (
        " with three seeds or more; of two, circles are the seeds" if least < INTERVAL_FROM else ""
    )
    return f" Means over seeds; bars are 95 % Student-t intervals{few}."
