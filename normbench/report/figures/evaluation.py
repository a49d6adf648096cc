"""One trained network, several statistics at evaluation: error by images per worker, and by the weight
of the test image's own moments; `normbench evaluate`, norms/evaluation.py."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report import names
from normbench.report.document import Document
from normbench.report.evaluations import KEY, RUNNING
from normbench.report.figures import lines
from normbench.report.figures.batch_size import panel
from normbench.report.figures.lines import LACKS
from normbench.report.figures.ratios import RAMP
from normbench.report.figures.style import (
    BARS,
    NORMS,
    Look,
    label_ends,
    look,
    sheet,
    within_percent,
)

EXAMPLE = "example@"


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure of a study with the key `evaluation`, and its caption."""
    points = lines.ours(document).dropna(subset=["mean"])
    if KEY not in points or points[points[KEY] != RUNNING].empty:
        return f"{LACKS} evaluations yet; normbench evaluate makes them"
    weights = points[KEY].map(weight_of)
    named = points[weights.isna() | (points[KEY] == RUNNING)]
    drawing, grid = sheet(1, 2, 3.3, document.view.width)
    left, right = grid.flat
    word = lines.measure(document)
    named = named.assign(row=named[KEY]).astype({"column": float, "half": float})
    panel(left, named, look(dict.fromkeys(named["row"], "")), document.view.measure)
    left.set(title="By images per worker", xlabel="images per worker", ylabel=f"{word}, %")
    by_weight(right, points.assign(weight=weights).dropna(subset=["weight"]))
    right.set(title="By the weight of the test image", xlabel="weight a of the image's own moments")
    right.set_ylabel(
        f"{word}, %" if document.view.width == "column" else ""
    )  # else beside the left
    return drawing, (
        f"{word.capitalize()} of the same trained networks by the statistics with which they are"
        " evaluated. running: the averages of training; precise: the mean over batches, each worker's"
        " images by themselves; pooled: over all images; example: a of the test image's own moments"
        " beside the running ones (right; a = 0 is running); batch: the test batch's own."
        f"{lines.interval(points['n'])} {lines.about(document)}"
    )


def weight_of(name: str) -> float | None:
    """The weight of the test image's own moments in an evaluation; None where it is no number."""
    try:
        return 0.0 if name == RUNNING else float(name.removeprefix(EXAMPLE))
    except ValueError:
        return None


def by_weight(axes: Axes, points: pd.DataFrame) -> None:
    """A line for each number of images per worker, the darker the fewer."""
    columns = sorted(points["column"].unique(), reverse=True)
    ends = []
    for colour, (_, marker), batch in zip(RAMP[2:], NORMS.values(), columns, strict=False):
        drawn, name = Look(colour, marker), names.setting("batch", int(batch))
        line = points[points["column"] == batch].set_index("weight").sort_index()
        bars = {"yerr": line["half"].astype(float), **BARS}
        axes.errorbar(line.index, line["mean"].astype(float), **bars, **drawn.line)
        lines.points(axes, line.index, line["seeds"], drawn.colour)
        ends.append((line.index[-1], line["mean"].iloc[-1], name, drawn.colour))
    within_percent(axes)
    label_ends(axes, ends)
