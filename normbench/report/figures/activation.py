"""Norm and activation, and the thresholds τ that TLU learned; FRN paper (2020), table 3."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import Line, layers, ours
from normbench.report.figures.style import OTHERS, Look, label_ends, look, sheet, whole_numbers


def draw(document: Document) -> tuple[Drawing, str] | None:
    """The figure and its caption; None where there is no number."""
    lines = [line for line in ours(document) if line.errors]
    if not lines:
        return None
    thresholds = {
        line.name: found
        for line in lines
        for column, cell in line.cells.items()
        if column == "tlu" and (found := layers(cell, "tau"))
    }
    drawing, grid = sheet(1, 2 if thresholds else 1, 3.0)
    errors(grid[0][0], lines)
    if thresholds:
        taus(grid[0][1], thresholds, look([line.name for line in lines]))
    return drawing, (
        "Left: test error by norm and activation, with 95 % Student-t intervals over seeds where"
        " there are several. Right: root mean square of the learned thresholds τ over the channels"
        " of a layer, from 0 at the start, in the order of the network."
    )


def errors(axes: Axes, lines: list[Line]) -> None:
    """A line of dots for each norm."""
    columns = list(dict.fromkeys(column for line in lines for column in line.errors))
    for index, column in enumerate(columns):
        colour, marker = OTHERS[index % len(OTHERS)]
        shift = 0.16 * (index - (len(columns) - 1) / 2)
        found = [
            (y + shift, line.errors[column])
            for y, line in enumerate(lines)
            if column in line.errors
        ]
        ys, means = [y for y, _ in found], [e.mean for _, e in found]
        halves: Any = [e.half or 0 for _, e in found]
        axes.errorbar(
            means, ys, xerr=halves, fmt=marker, color=colour, label=str(column), elinewidth=1
        )
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("test error, %")
    axes.set_title("Test error")
    axes.legend(loc="best")


def taus(
    axes: Axes,
    thresholds: dict[str, dict[str, list[list[float]]]],
    colours: dict[str, Look],
) -> None:
    """One line a norm over the layers."""
    ends = []
    for norm, by_layer in thresholds.items():
        colour, marker = colours[norm].colour, colours[norm].marker
        values = [rms([t for run in runs for t in run]) for runs in by_layer.values()]
        axes.plot(range(1, len(values) + 1), values, color=colour, marker=marker)
        ends.append((len(values), values[-1], norm, colour))
    axes.set_ylim(bottom=0)
    whole_numbers(axes)
    axes.set_xlabel("activation, in the order of the network")
    axes.set_title("Learned thresholds τ, root mean square")
    label_ends(axes, ends)


def rms(values: list[float]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values))
