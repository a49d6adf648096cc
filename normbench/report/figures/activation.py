"""Norm and activation, and the thresholds τ that TLU learned; FRN paper (2020), table 3."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, ours, parameter
from normbench.report.figures.style import OTHERS, Look, label_ends, look, sheet, whole_numbers
from normbench.report.summaries import pooled


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    cells = ours(document)
    points = cells.dropna(subset=["mean"])
    if points.empty:
        return f"{LACKS} result yet"
    taus = parameter(document, "tau")
    taus = taus[taus["column"] == "tlu"]
    if taus.empty and "tlu" in list(points["column"]):
        return f"{LACKS} thresholds in learned.csv, nor records"
    drawing, grid = sheet(1, 1 if taus.empty else 2, 3.0)
    errors(grid[0][0], points)
    if len(taus):
        thresholds(grid[0][1], taus, look(cells["row"]))
    return drawing, (
        "Left: test error by norm and activation, with 95 % Student-t intervals over seeds where"
        " there are several. Right: root mean square of the learned thresholds τ over the channels"
        " of a layer, from 0 at the start, in the order of the network."
    )


def errors(axes: Axes, points: pd.DataFrame) -> None:
    """A line of dots for each norm, its activations a little apart."""
    rows, columns = list(dict.fromkeys(points["row"])), list(dict.fromkeys(points["column"]))
    for index, column in enumerate(columns):
        colour, marker = OTHERS[index % len(OTHERS)]
        some = points[points["column"] == column]
        ys = some["row"].map(rows.index) + 0.16 * (index - (len(columns) - 1) / 2)
        style: dict[str, Any] = {"fmt": marker, "color": colour, "elinewidth": 1}
        axes.errorbar(some["mean"], ys, xerr=some["half"].fillna(0), label=str(column), **style)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("test error, %")
    axes.set_title("Test error")
    axes.legend(loc="best")


def thresholds(axes: Axes, taus: pd.DataFrame, looks: dict[str, Look]) -> None:
    """One line a norm over the layers."""
    ends = []
    for row, line in taus.groupby("row", sort=False):
        by_layer, style = pooled(line, ["depth"])["rms"], looks[str(row)]
        axes.plot(by_layer, color=style.colour, marker=style.marker)
        ends.append((by_layer.iloc[-1], str(row), style.colour))
    axes.set_ylim(bottom=0)
    whole_numbers(axes)
    axes.set_xlabel("activation, in the order of the network")
    axes.set_title("Learned thresholds τ, root mean square")
    label_ends(axes, ends)
