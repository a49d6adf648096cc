"""Error against batch size, ours and published beside each other; GN paper (2018), figure 1.

The same for any column of numbers, such as groups.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import Line, ours, theirs
from normbench.report.figures.style import Look, label_ends, look, sheet
from normbench.report.tables import name


def draw(document: Document) -> tuple[Drawing, str] | None:
    """The figure and its caption; None where there is no number, or the columns are none."""
    experiment, lines = document.experiment, ours(document)
    if not any(line.errors for line in lines) or not all(numeric(line) for line in lines):
        return None
    title, others = theirs(document)
    drawing, grid = sheet(1, 2 if others else 1, 3.3)
    colours = look(
        [line.name for line in lines + [o for o in others if o.name not in {x.name for x in lines}]]
    )
    context = document.parts[0].section.context
    here = (
        f"Measured here\n({context.get('model', 'several networks')}, {context.get('dataset', '')})"
    )
    for axes, heading, some in zip(grid[0], (here, title), (lines, others), strict=False):
        panel(axes, some, colours)
        axes.set_title(heading)
        axes.set_xlabel(label(experiment.columns))
    grid[0][0].set_ylabel("test error, %")
    return drawing, caption(document, lines, bool(others))


def numeric(line: Line) -> bool:
    return all(isinstance(value, (int, float)) and value > 0 for value in line.errors)


def label(column: str | None) -> str:
    return "images per worker (batch)" if column == "batch" else name(column or "")


def caption(document: Document, lines: list[Line], published: bool) -> str:
    seeds = len(document.parts[0].section.seeds)
    words = f"Test error against {label(document.experiment.columns)}"
    words += ", here and as published" if published else ""
    words += (
        f". Mean over {seeds} seeds, bands: 95 % Student-t interval."
        if seeds > 1
        else ". One seed."
    )
    if any(line.shared for line in lines):
        words += " Dashed: run once, equal at every batch by construction."
    return words


def panel(axes: Axes, lines: list[Line], colours: dict[str, Look]) -> None:
    """One set of lines over a log2 axis, large batches left as in the GN paper."""
    xs = sorted({x for line in lines for x in line.errors})
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs, [str(x) for x in xs])
    axes.set_xticks([], minor=True)
    axes.set_xlim(xs[-1] * 1.12, xs[0] / 1.12)
    for line in lines:
        draw_line(axes, line, colours[line.name])
    top = limit([e.mean for line in lines for e in line.errors.values()])
    if top is not None:
        axes.set_ylim(axes.get_ylim()[0], top)
        beyond(axes, lines, top, colours)
    ends = [end(line, top, colours[line.name].colour) for line in lines if line.errors]
    label_ends(axes, ends)


def end(line: Line, top: float | None, colour: str) -> tuple[float, float, str, str]:
    """Where a line ends, and what is written there: its name, and its value if it leaves the axes."""
    x = min(line.errors)
    y = line.errors[x].mean
    return x, y, line.name + (f" ↑ {y:.0f}" if top is not None and y > top else ""), colour


def draw_line(axes: Axes, line: Line, look: Look) -> None:
    """Means and intervals; a line that was run once has no points of its own."""
    xs = sorted(line.errors)
    means = [line.errors[x].mean for x in xs]
    dash: Any = (0, (5, 2)) if line.shared else look.dash
    points: Any = {} if line.shared else {"marker": look.marker, "mec": "white", "mew": 0.5}
    axes.plot(xs, means, color=look.colour, linestyle=dash, **points)
    halves = [math.nan if (half := line.errors[x].half) is None else half for x in xs]
    low = [m - h for m, h in zip(means, halves, strict=True)]
    high = [m + h for m, h in zip(means, halves, strict=True)]
    axes.fill_between(xs, low, high, color=look.colour, alpha=0.13, linewidth=0)


def limit(values: list[float]) -> float | None:
    """Where the axis ends, if a few values lie so far up that the others would be one line."""
    usual = statistics.median(values)
    return 1.9 * usual if values and max(values) > 2.6 * usual else None


def beyond(axes: Axes, lines: list[Line], top: float, colours: dict[str, Look]) -> None:
    """Says the values above the end of the axis, but for those at the end of a line."""
    for line in lines:
        for x, error in line.errors.items():
            if error.mean > top and x != min(line.errors):
                axes.annotate(
                    f"↑ {error.mean:.0f}",
                    (x, top),
                    xytext=(-4, -4),
                    textcoords="offset points",
                    ha="right",
                    va="top",
                    fontsize=7,
                    color=colours[line.name].colour,
                )
