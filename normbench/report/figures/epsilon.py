"""What FRN does to a plane of one element, by ε; FRN paper (2020), figure 3. Analytic.

y = x / √(x² + ε) is the sign of x for a small ε, and its slope ε / (x² + ε)^1.5 vanishes beside 0.
"""

from __future__ import annotations

import math
import statistics

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullFormatter

from normbench.report.document import Document
from normbench.report.figures.lines import layers, ours
from normbench.report.figures.style import OTHERS, sheet, whole_numbers

EPSILONS = {"ε = 10⁻⁶": 1e-6, "ε = 10⁻⁴": 1e-4, "ε = 10⁻²": 1e-2, "ε = 1": 1.0}
COLOURS = ("#08306B", "#2171B5", "#6BAED6", "#E69F00")


def draw(document: Document) -> tuple[Drawing, str] | None:
    """The figure and its caption; a third panel where runs learned an ε."""
    learned = {
        line.name: found
        for line in ours(document)
        for cell in line.cells.values()
        if (found := layers(cell, "epsilon"))
    }
    drawing, grid = sheet(1, 3 if learned else 2, 2.7)
    xs = [i / 400 for i in range(-400, 401)]
    for (word, epsilon), colour in zip(EPSILONS.items(), COLOURS, strict=True):
        grid[0][0].plot(xs, [normalized(x, epsilon) for x in xs], color=colour, label=word)
        grid[0][1].plot(xs, [slope(x, epsilon) for x in xs], color=colour, label=word)
    grid[0][0].set_title("FRN of one element")
    grid[0][0].set_ylabel("y = x / √(x² + ε)")
    grid[0][1].set_title("Its slope")
    grid[0][1].set_ylabel("dy / dx")
    grid[0][1].set_yscale("log")
    for axes in grid[0][:2]:
        axes.set_xlabel("x")
    grid[0][0].legend(loc="upper left", handlelength=1, borderaxespad=0)
    if learned:
        by_layer(grid[0][2], learned)
    return drawing, (
        "FRN where a plane is one element: with a small ε it is the sign function, and no gradient"
        " passes."
        + (" Right: the ε that were learned, least to greatest channel." if learned else "")
    )


def normalized(x: float, epsilon: float) -> float:
    """FRN of the single element x."""
    return x / math.sqrt(x * x + epsilon)


def slope(x: float, epsilon: float) -> float:
    """Its derivative."""
    return epsilon / math.sqrt(x * x + epsilon) ** 3


def by_layer(axes: Axes, learned: dict[str, dict[str, list[list[float]]]]) -> None:
    """Median and range of the learned ε in each layer."""
    for (_, found), (colour, marker) in zip(learned.items(), OTHERS, strict=False):
        values = [[e for run in runs for e in run] for runs in found.values()]
        xs = range(1, len(values) + 1)
        axes.fill_between(
            xs,
            [min(v) for v in values],
            [max(v) for v in values],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(xs, [statistics.median(v) for v in values], color=colour, marker=marker)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    whole_numbers(axes)
    axes.set_title("Learned ε")
    axes.set_xlabel("layer, in network order")
