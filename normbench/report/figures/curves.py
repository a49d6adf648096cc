"""Learning curves: test error by epoch, one panel for each column of the table."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import Line, ours
from normbench.report.figures.style import Look, look, sheet, whole_numbers
from normbench.report.study import Cell
from normbench.report.tables import title

PANELS = 4  # beside each other, else 3


def draw(document: Document) -> tuple[Drawing, str] | None:
    """The figure and its caption; None where no run has a curve."""
    lines = ours(document)
    columns = list(dict.fromkeys(column for line in lines for column in line.cells))
    if not any(curve(cell) for line in lines for cell in line.cells.values()):
        return None
    wide = len(columns) if len(columns) <= PANELS else PANELS - 1
    high = math.ceil(len(columns) / wide)
    drawing, grid = sheet(high, wide, 0.5 + 2.1 * high, sharex=True, sharey=True)
    colours = look([line.name for line in lines])
    for axes, column in zip(grid.flat, columns, strict=False):
        panel(axes, lines, column, colours)
        axes.set_title(title(document.experiment.columns, column))
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("test error, %")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
    seeds = len(document.parts[0].section.seeds)
    return drawing, "Test error by epoch" + (
        f": mean over {seeds} seeds, bands from the least to the greatest." if seeds > 1 else "."
    )


def curve(cell: Cell) -> dict[int, list[float]]:
    """Test error in percent, by epoch, of the runs that got there."""
    by_epoch: dict[int, list[float]] = {}
    for run in cell.runs.values():
        values: list[Any] = run.record.curves.get("test_top1_percent", [])
        for epoch, value in enumerate(values, start=1):
            if value is not None:
                by_epoch.setdefault(epoch, []).append(100 - value)
    return by_epoch


def panel(axes: Axes, lines: list[Line], column: Any, colours: dict[str, Look]) -> None:
    for line in lines:
        errors = curve(line.cells[column]) if column in line.cells else {}
        epochs, colour = sorted(errors), colours[line.name].colour
        means = [sum(errors[e]) / len(errors[e]) for e in epochs]
        dash: Any = (0, (5, 2)) if line.shared else colours[line.name].dash
        axes.plot(epochs, means, color=colour, label=line.name, linestyle=dash, linewidth=1.2)
        low, high = [min(errors[e]) for e in epochs], [max(errors[e]) for e in epochs]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.13, linewidth=0)
    whole_numbers(axes)
