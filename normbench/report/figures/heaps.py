"""Two panels of a parameter between 0 and 1: the heaps of its channels, and its mean by layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.figures.style import Look, sheet, whole_numbers
from normbench.report.summaries import BINS, by_depth
from normbench.report.summaries import shares as histogram


def heaps(points: pd.DataFrame, looks: dict[str, Look]) -> tuple[Drawing, Axes, Axes]:
    """The drawing and its panels; `points` has `line`, the name of the line that a row belongs to."""
    drawing, grid = sheet(1, 2, 2.8)
    left, right = grid[0]
    edges = np.linspace(0, 1, BINS + 1)
    for name, line in points.groupby("line", sort=False):
        style = looks[str(name)]
        left.stairs(
            histogram(line),
            edges,
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.6,
            label=name,
        )
        means = by_depth(line)["mean"]
        right.plot(
            means.index,
            means,
            color=style.colour,
            linestyle=style.dash,
            marker=style.marker,
            label=name,
        )
    left.set_ylabel("channels, %")
    whole_numbers(right)
    return drawing, left, right
