"""Norm and activation, and the thresholds τ that TLU learned; FRN paper (2020), table 3."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report import names
from normbench.report.document import Document
from normbench.report.figures import lines
from normbench.report.figures.lines import LACKS
from normbench.report.figures.style import BARS, Look, dodge, label_ends, sheet, whole_numbers
from normbench.report.summaries import pooled

LOOKS = (  # of activations, unlike those of norms
    *(("#777777", "s"), ("#CC3311", "o"), ("#33BBEE", "D"), ("#AA4499", "^"), ("#DDAA33", "v")),
)


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    cells = lines.ours(document)
    points = cells.dropna(subset=["mean"])
    if points.empty:
        return f"{LACKS} result yet"
    taus = lines.parameter(document, "tau")
    taus = taus[taus["column"] == "tlu"]
    if taus.empty and "tlu" in list(points["column"]):
        return f"{LACKS} thresholds in learned.csv, nor records"
    drawing, grid = sheet(1, 1 if taus.empty else 2, 3.0, document.view.width)
    dots(grid.flat[0], points)
    word = lines.measure(document)
    grid.flat[0].set(xlabel=f"{word}, %", title=word.capitalize())
    words = f"{word.capitalize()} by norm and activation.{lines.interval(points['n'])}"
    if len(taus):
        thresholds(grid.flat[1], taus, lines.looks(document))
        words += (
            " Thresholds τ: root mean square over the channels of a layer and over seeds, from 0 at the"
            " start, in the order of the network."
        )
    return drawing, f"{words} {lines.about(document)}"


def dots(axes: Axes, points: pd.DataFrame) -> None:
    """A line of dots for each norm, its activations a little apart."""
    rows, columns = list(dict.fromkeys(points["row"])), list(dict.fromkeys(points["column"]))
    for index, column in enumerate(columns):
        colour, marker = LOOKS[index % len(LOOKS)]
        some = points[points["column"] == column]
        ys = some["row"].map(rows.index) + 0.1 * (len(columns) - 1) * dodge(index, len(columns))
        label = names.setting("activation", column)
        style: dict[str, Any] = {"fmt": marker, "color": colour, **BARS}
        axes.errorbar(some["mean"], ys, xerr=some["half"], label=label, **style)
        lines.points(axes, ys, some["seeds"], colour, sideways=True)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, 0), min(high, 100))
    axes.legend(loc="best", frameon=True, edgecolor="none")


def thresholds(axes: Axes, taus: pd.DataFrame, looks: dict[str, Look]) -> None:
    """One line a norm over the layers."""
    ends = []
    for row, line in taus.groupby("row", sort=False):
        by_layer, look = pooled(line, ["depth"])["rms"], looks[str(row)]
        axes.plot(by_layer, **look.line)
        ends.append((by_layer.index[-1], by_layer.iloc[-1], str(row), look.colour))
    axes.set_ylim(bottom=0)
    whole_numbers(axes)
    axes.set_xlabel("activation, in the order of the network")
    axes.set_title("Learned thresholds τ of TLU")
    label_ends(axes, ends)
