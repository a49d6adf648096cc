"""Learning curves: test or training error by epoch, one panel for each column of the table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, joined
from normbench.report.figures.style import SHARED, Look, band, look, sheet, whole_numbers
from normbench.report.layout import title

PANELS = 4  # beside each other, else 3


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the test error and its caption."""
    return of_images(document, "test")


def train(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the training error, as augmented images were shown, and its caption."""
    return of_images(document, "training")


def of_images(document: Document, which: str) -> tuple[Drawing, str] | str:
    """The figure and its caption, over `test` or `training` images."""
    frame, key = document.frames.curves, {"training": "train"}.get(which, which) + "_top1_percent"
    if key not in frame or frame.empty:
        return f"{LACKS} {which} error in curves.csv, nor records"
    points = joined(document, frame[["run", "epoch", key]])
    points["error"] = 100 - points[key].astype(float)
    points = points.dropna(subset="error")
    if points.empty or points["epoch"].max() < 2:
        return f"{LACKS} run of two epochs"
    columns = list(dict.fromkeys(points["column"]))
    wide = len(columns) if len(columns) <= PANELS else PANELS - 1
    high = math.ceil(len(columns) / wide)
    drawing, grid = sheet(high, wide, 0.5 + 2.1 * high, sharex=True, sharey=True)
    looks = look(points["row"])
    for place, axes in enumerate(grid.flat):
        if place >= len(columns):
            axes.set_visible(False)
            continue
        panel(axes, points[[value == columns[place] for value in points["column"]]], looks)
        axes.set_title(title(document.experiment.columns, columns[place]))
        if place + wide >= len(columns):
            axes.set_xlabel("epoch")
            axes.xaxis.set_tick_params(labelbottom=True)
    for row in grid:
        row[0].set_ylabel(f"{which} error, %")
    handles = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
    names = [name for name in looks if name in handles]
    lines = [handles[name] for name in names]
    drawing.legend(lines, names, loc="outside lower center", ncols=min(6, len(names)))
    seeds = points["seed"].nunique()
    return drawing, f"{which.capitalize()} error by epoch" + (
        f": mean over {seeds} seeds, bands from the least to the greatest." if seeds > 1 else "."
    )


def panel(axes: Axes, points: pd.DataFrame, looks: dict[str, Look]) -> None:
    """One line for each row of the table."""
    for row, line in points.groupby("row", sort=False):
        look = looks[str(row)]
        found = line.groupby("epoch")["error"].agg(["mean", "min", "max"])
        style: dict[str, Any] = {
            "linestyle": SHARED if line["shared"].iloc[0] else look.dash,
            "linewidth": 1.2,
        }
        band(axes, found["mean"], found["min"], found["max"], look.colour, label=row, **style)
    whole_numbers(axes)
