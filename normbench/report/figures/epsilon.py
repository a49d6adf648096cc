"""What FRN does to a plane of one element, by ε; FRN paper (2020), figure 3. Analytic.

y = x / √(x² + ε) is the sign of x for a small ε, and its slope ε / (x² + ε)^1.5 vanishes beside 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullFormatter

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, ours, parameter
from normbench.report.figures.style import OTHERS, band, sheet, whole_numbers
from normbench.report.summaries import pooled

EPSILONS = {"ε = 10⁻⁶": 1e-6, "ε = 10⁻⁴": 1e-4, "ε = 10⁻²": 1e-2, "ε = 1": 1.0}
COLOURS = ("#08306B", "#2171B5", "#6BAED6", "#E69F00")


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption; a third panel where runs learned an ε."""
    learned, cells = parameter(document, "epsilon"), ours(document)
    asked = "norm.learned_eps" in cells and (cells["norm.learned_eps"] == True).any()  # noqa: E712
    if learned.empty and asked:
        return f"{LACKS} ε in learned.csv, nor records"
    drawing, grid = sheet(1, 2 if learned.empty else 3, 2.7)
    x = np.linspace(-1, 1, 801)
    for (word, epsilon), colour in zip(EPSILONS.items(), COLOURS, strict=True):
        root = np.sqrt(x * x + epsilon)
        grid[0][0].plot(x, x / root, color=colour, label=word)
        grid[0][1].plot(x, epsilon / root**3, color=colour, label=word)
    grid[0][0].set(title="FRN of one element", ylabel="y = x / √(x² + ε)", xlabel="x")
    grid[0][1].set(title="Its slope", ylabel="dy / dx", xlabel="x", yscale="log")
    grid[0][0].legend(loc="upper left", handlelength=1, borderaxespad=0)
    if len(learned):
        by_layer(grid[0][2], learned)
    return drawing, (
        "FRN where a plane is one element: with a small ε it is the sign function, and no gradient"
        " passes."
        + ("" if learned.empty else " Right: the ε that were learned, least to greatest channel.")
    )


def by_layer(axes: Axes, learned: pd.DataFrame) -> None:
    """Median and range of the learned ε in each layer."""
    rows = learned.groupby("row", sort=False)
    for (_, line), (colour, marker) in zip(rows, OTHERS, strict=False):
        found = pooled(line, ["depth"])
        band(axes, found["median"], found["min"], found["max"], colour, alpha=0.15, marker=marker)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    whole_numbers(axes)
    axes.set_title("Learned ε")
    axes.set_xlabel("layer, in network order")
