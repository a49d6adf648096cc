"""Learning curves: test or training error by epoch, one panel for each column of the table, or, where
the table has one row, one line for each."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report import names
from normbench.report.document import Document
from normbench.report.figures import lines
from normbench.report.figures.lines import INTERVAL_FROM, LACKS
from normbench.report.figures.style import (
    BARS,
    Look,
    legend_below,
    look,
    sheet,
    whole_numbers,
    within_percent,
)
from normbench.report.interval import estimate
from normbench.report.layout import in_order

PANELS = 4  # beside each other, else 3
MARKED = 6  # epochs, about, at which a line has its marker and its interval


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the test error and its caption."""
    return of_images(document, "test")


def train(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the training error, as augmented images were shown, and its caption."""
    return of_images(document, "training")


def of_images(document: Document, which: str) -> tuple[Drawing, str] | str:
    """The figure and its caption, over `test` or `training` images."""
    points = by_epoch(document, which)
    if isinstance(points, str):
        return points
    columns = in_order(list(points["column"]))
    if len(columns) > 1 and points["row"].nunique() == 1:
        key = document.experiment.columns or ""
        points["row"] = [names.setting(key, value) for value in points["column"]]
        points["column"], columns = None, [None]
        looks = look(dict.fromkeys(points["row"], str(points["norm"].iloc[0])))
    else:
        looks = lines.looks(document)
    word = lines.measure(document, which)
    drawing, panels = grid(document, len(columns), word)
    for axes, column in zip(panels, columns, strict=True):
        some = points[[value == column or column is None for value in points["column"]]]
        panel(axes, some, looks)
        if len(columns) > 1:
            heading = names.setting(document.experiment.columns or "", column)
            axes.set_title(heading, size=8.5 if document.view.width == "page" else 7)
    for axes in panels:
        within_percent(axes)
    handles = {str(bar.get_label()): bar[0] for axes in panels for bar in axes.containers}
    shown = [name for name in looks if name in handles]
    legend_below(drawing, [handles[name] for name in shown], shown)
    n = points.groupby(["row", "epoch", "cell"])["error"].count()
    words = f"{word.capitalize()} by epoch.{lines.interval(n)}"
    return drawing, f"{words} {lines.about(document)}"


def by_epoch(document: Document, which: str) -> pd.DataFrame | str:
    """A row for each run, cell and epoch, with its `error` (or accuracy) in percent, or what is missing.
    A column of which all runs have one epoch is left out: it would be an empty panel."""
    frame, key = document.frames.curves, {"training": "train"}.get(which, which) + "_top1_percent"
    if key not in frame or frame.empty:
        return f"{LACKS} {which} error in curves.csv, nor records"
    points = lines.joined(document, frame[["run", "epoch", key]])
    points["error"] = lines.as_shown(document, points[key])
    points = points.dropna(subset="error")
    longest = points.groupby(points["column"].map(str))["epoch"].transform("max")
    points = points[longest > 1].copy()
    return f"{LACKS} run of two epochs" if points.empty else points


def grid(document: Document, count: int, word: str) -> tuple[Drawing, list[Axes]]:
    """The drawing and its panels, with the labels of the outer ones."""
    page = document.view.width == "page"
    wide = min(count, 2) if not page else count if count <= PANELS else PANELS - 1
    high = math.ceil(count / wide)
    height = 0.6 + (2.0 if page and count > 1 else 1.6 if count > 1 else 2.4) * high
    drawing, axes = sheet(high, wide, height, document.view.width, True, sharex=True, sharey=True)
    for unused in axes.flat[count:]:
        unused.remove()
    for place, panel in enumerate(axes.flat[:count]):
        if place + wide >= count:
            panel.set_xlabel("epoch" if place // wide == high - 1 else "")
            panel.xaxis.set_tick_params(labelbottom=True)
        if place % wide == 0:
            panel.set_ylabel(f"{word}, %")
    return drawing, list(axes.flat[:count])


def panel(axes: Axes, points: pd.DataFrame, looks: dict[str, Look]) -> None:
    """One line for each row of the table; markers and intervals at some epochs, those of different
    lines at different ones."""
    last = int(points["epoch"].max())
    every = max(1, math.ceil(last / MARKED))
    groups = list(points.groupby("row", sort=False))
    for index, (row, line) in enumerate(groups):
        found = {epoch: list(some["error"]) for epoch, some in line.groupby("epoch")}
        means = [estimate(values) for values in found.values()]
        style: dict[str, Any] = {
            **BARS,
            **looks[str(row)].line,
            "linewidth": 1.1,
            "markeredgewidth": 0,
        }
        style["markersize"] *= 0.8
        at = (last - 1 - index * every // len(groups)) % every
        half = [one.half if one and one.n >= INTERVAL_FROM else None for one in means]
        style |= {
            "yerr": pd.Series(half, dtype=float),
            "errorevery": (at, every),
            "markevery": (at, every),
        }
        axes.errorbar(
            [int(str(epoch)) for epoch in found],
            [one.mean for one in means if one],
            label=row,
            **style,
        )
        shown = [epoch for i, epoch in enumerate(found) if i % every == at]
        lines.points(axes, shown, [found[epoch] for epoch in shown], looks[str(row)].colour)
    whole_numbers(axes)
