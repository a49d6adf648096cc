"""What FRN does to a plane of one element, by ε; FRN paper (2020), figure 3. Analytic.

y = x / √(x² + ε) is the sign of x for a small ε, and its slope ε / (x² + ε)^1.5 vanishes beside 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullLocator

from normbench.report import names
from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, about, looks, ours, parameter
from normbench.report.figures.style import BARS, DASHES, Look, sheet, whole_numbers
from normbench.report.summaries import pooled

EPSILONS = {"ε = 10⁻⁶": 1e-6, "ε = 10⁻⁴": 1e-4, "ε = 10⁻²": 1e-2, "ε = 1": 1.0}
COLOURS = ("#08306B", "#2171B5", "#6BAED6", "#E69F00")


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption; a third panel where runs learned an ε."""
    learned, cells = parameter(document, "epsilon"), ours(document)
    asked = "norm.learned_eps" in cells and (cells["norm.learned_eps"] == True).any()  # noqa: E712
    if learned.empty and asked:
        return f"{LACKS} ε in learned.csv, nor records"
    drawing, grid = sheet(1, 2 if learned.empty else 3, 2.7, document.view.width)
    x = np.linspace(-1, 1, 801)
    for (word, epsilon), colour, dash in zip(EPSILONS.items(), COLOURS, DASHES, strict=False):
        root, style = np.sqrt(x * x + epsilon), {"color": colour, "linestyle": dash, "label": word}
        grid.flat[0].plot(x, x / root, **style)
        grid.flat[1].plot(x, epsilon / root**3, **style)
    grid.flat[0].set(title="FRN of one element", ylabel="y = x / √(x² + ε)", xlabel="x")
    grid.flat[1].set(title="Its slope", ylabel="dy / dx", xlabel="x", yscale="log")
    grid.flat[0].legend(loc="upper left", handlelength=2, borderaxespad=0)
    words = (
        "FRN where a plane is one element: with a small ε it is the sign function, and no gradient"
    )
    words += " passes."
    if len(learned):
        by_layer(grid.flat[2], learned, looks(document))
        words += (
            f" Last: the ε that were learned, median and range over channels. {about(document)}"
        )
    return drawing, words


def by_layer(axes: Axes, learned: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Median and range of the learned ε in each layer."""
    for row, line in learned.groupby("row", sort=False):
        found = pooled(line, ["depth"])
        reach = [found["median"] - found["min"], found["max"] - found["median"]]
        style = {**BARS, **looks[str(row)].line}
        axes.errorbar(found.index, found["median"], yerr=reach, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: names.number(value))
    axes.yaxis.set_minor_locator(NullLocator())
    whole_numbers(axes)
    axes.set_title("Learned ε")
    axes.set_xlabel("layer, in network order")
