"""Error against batch size, ours and published beside each other; GN paper (2018), figure 1.

The same for any column of numbers, such as groups.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, ours, theirs
from normbench.report.figures.style import Look, label_ends, look, sheet
from normbench.report.layout import name


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    experiment, points = document.experiment, ours(document).dropna(subset=["mean"])
    if points.empty:
        return f"{LACKS} result yet"
    if not all(isinstance(x, (int, float)) and x > 0 for x in points["column"]):
        return f"{LACKS} column of numbers"
    title, others = theirs(document)
    panels = [(here(document), points), (title, others)][: 1 if others.empty else 2]
    drawing, grid = sheet(1, len(panels), 3.3)
    looks = look(list(dict.fromkeys([*points["row"], *others["row"]])))
    for axes, (heading, some) in zip(grid[0], panels, strict=True):
        panel(axes, some, looks)
        axes.set_title(heading)
        axes.set_xlabel(label(experiment.columns))
    grid[0][0].set_ylabel("test error, %")
    return drawing, caption(document, points, published=len(panels) > 1)


def here(document: Document) -> str:
    context = document.parts[0].section.context
    network, data = context.get("model", "several networks"), context.get("dataset", "")
    return f"Measured here\n({network}, {data}, {context.get('epochs')} epochs)"


def label(column: str | None) -> str:
    return "images per worker (batch)" if column == "batch" else name(column or "")


def caption(document: Document, points: pd.DataFrame, published: bool) -> str:
    words = f"Test error against {label(document.experiment.columns)}"
    words += ", here and as published" if published else ""
    if points["n"].max() > 1:
        seeds = len(document.parts[0].section.seeds)
        words += f". Mean over {seeds} seeds, bands: 95 % Student-t interval."
    else:
        words += ". One seed."
    if points["shared"].any():
        words += " Dashed: run once, equal at every batch by construction."
    return words


def panel(axes: Axes, points: pd.DataFrame, looks: dict[str, Look]) -> None:
    """One set of lines over a log2 axis, large batches left as in the GN paper."""
    xs = sorted(points["column"].unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs, [str(x) for x in xs])
    axes.set_xticks([], minor=True)
    axes.set_xlim(xs[-1] * 1.12, xs[0] / 1.12)
    for row, line in points.groupby("row", sort=False):
        draw_line(axes, line.sort_values("column"), looks[str(row)])
    top = limit(points["mean"])
    low, high = extent(points, top)
    axes.set_ylim(low, high)
    if top is not None:
        beyond(axes, points, top, looks)
    ends = points.loc[
        points.astype({"column": float}).groupby("row", sort=False)["column"].idxmin()
    ]
    label_ends(axes, [end(point, top, looks) for point in ends.itertuples()])


def extent(points: pd.DataFrame, top: float | None) -> tuple[float, float]:
    """The limits of the axis: around the means, with room for intervals up to half as far again, and
    inside 0 to 100."""
    mean, half = points["mean"], points["half"].astype(float).fillna(0)
    room = 0.5 * max(mean.max() - mean.min(), 2.0)
    low = max((mean - half).min(), mean.min() - room) - 0.06 * room
    high = min((mean + half).max(), mean.max() + room) + 0.06 * room
    return max(low, 0.0), min(high, 100.0) if top is None else top


def draw_line(axes: Axes, line: pd.DataFrame, look: Look) -> None:
    """Means and intervals; a line that was run once has no points of its own."""
    shared = bool(line["shared"].iloc[0])
    xs, means, halves = line["column"].astype(float), line["mean"], line["half"].astype(float)
    dash: Any = (0, (5, 2)) if shared else look.dash
    points: Any = (
        {} if shared and len(line) > 1 else {"marker": look.marker, "mec": "white", "mew": 0.5}
    )
    axes.plot(xs, means, color=look.colour, linestyle=dash, **points)
    axes.fill_between(
        xs, means - halves, means + halves, color=look.colour, alpha=0.13, linewidth=0
    )


def limit(values: pd.Series[float]) -> float | None:
    """Where the axis ends, if a few values lie so far up that the others would be one line."""
    usual = float(values.median())
    return 1.9 * usual if values.max() > 2.6 * usual else None


def end(point: Any, top: float | None, looks: dict[str, Look]) -> tuple[float, float, str, str]:
    """Where a line ends, and what is written there: its name, and its value if it leaves the axes."""
    far = top is not None and point.mean > top
    return (
        point.column,
        point.mean,
        point.row + (f" ↑ {point.mean:.0f}" if far else ""),
        looks[point.row].colour,
    )


def beyond(axes: Axes, points: pd.DataFrame, top: float, looks: dict[str, Look]) -> None:
    """Says the values above the end of the axis, but for those at the end of a line."""
    for row, line in points.groupby("row", sort=False):
        for point in line[line["mean"] > top].itertuples():
            if point.column != line["column"].min():
                axes.annotate(
                    f"↑ {point.mean:.0f}",
                    (float(str(point.column)), top),
                    xytext=(-4, -4),
                    textcoords="offset points",
                    ha="right",
                    va="top",
                    fontsize=7,
                    color=looks[str(row)].colour,
                )
