"""Learning curves: test error by epoch, one panel for each column of the table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, joined
from normbench.report.figures.style import Look, look, sheet, whole_numbers
from normbench.report.layout import title

PANELS = 4  # beside each other, else 3


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    frame = document.frames.curves
    if "test_top1_percent" not in frame or frame.empty:
        return f"{LACKS} curves.csv, nor records"
    points = joined(document, frame[["run", "epoch", "test_top1_percent"]])
    points = points.assign(error=100 - points["test_top1_percent"].astype(float)).dropna(
        subset="error"
    )
    if points.empty or points["epoch"].max() < 2:
        return f"{LACKS} run of two epochs"
    columns = list(dict.fromkeys(points["column"]))
    wide = len(columns) if len(columns) <= PANELS else PANELS - 1
    high = math.ceil(len(columns) / wide)
    drawing, grid = sheet(high, wide, 0.5 + 2.1 * high, sharex=True, sharey=True)
    looks = look(list(dict.fromkeys(points["row"])))
    for axes, column in zip(grid.flat, columns, strict=False):
        panel(axes, points[[value == column for value in points["column"]]], looks)
        axes.set_title(title(document.experiment.columns, column))
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("test error, %")
    for axes in grid.flat[max(len(columns) - wide, 0) : len(columns)]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_tick_params(labelbottom=True)
    labelled = [axes.get_legend_handles_labels() for axes in grid.flat]
    handles = {label: line for pair in labelled for line, label in zip(*pair, strict=True)}
    names = [name for name in looks if name in handles]
    drawing.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=min(6, len(names)),
    )
    seeds = points["seed"].nunique()
    return drawing, "Test error by epoch" + (
        f": mean over {seeds} seeds, bands from the least to the greatest." if seeds > 1 else "."
    )


def panel(axes: Axes, points: pd.DataFrame, looks: dict[str, Look]) -> None:
    """One line for each row of the table."""
    for row, line in points.groupby("row", sort=False):
        look = looks[str(row)]
        found = line.groupby("epoch")["error"].agg(["mean", "min", "max"])
        dash: Any = (0, (5, 2)) if line["shared"].iloc[0] else look.dash
        axes.plot(
            found.index,
            found["mean"],
            color=look.colour,
            label=str(row),
            linestyle=dash,
            linewidth=1.2,
        )
        axes.fill_between(
            found.index, found["min"], found["max"], color=look.colour, alpha=0.13, linewidth=0
        )
    whole_numbers(axes)
