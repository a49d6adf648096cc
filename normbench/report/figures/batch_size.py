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
from normbench.report.figures.style import SHARED, Look, band, label_ends, look, sheet
from normbench.report.layout import name


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    points = ours(document).dropna(subset=["mean"])
    if points.empty:
        return f"{LACKS} result yet"
    if not all(isinstance(x, (int, float)) and x > 0 for x in points["column"]):
        return f"{LACKS} column of numbers"
    context = document.parts[0].section.context
    network, data = context.get("model", "several networks"), context.get("dataset", "")
    panels = {f"Measured here\n({network}, {data}, {context.get('epochs')} epochs)": points}
    title, others = theirs(document)
    panels |= {} if others.empty else {title: others}
    drawing, grid = sheet(1, len(panels), 3.3)
    looks = look([*points["row"], *others["row"]])
    column = document.experiment.columns
    label = "images per worker (batch)" if column == "batch" else name(column or "")
    for axes, (heading, some) in zip(grid[0], panels.items(), strict=True):
        panel(axes, some.astype({"column": float, "half": float}), looks)
        axes.set_title(heading)
        axes.set_xlabel(label)
    grid[0][0].set_ylabel("test error, %")
    words = f"Test error against {label}" + (", here and as published" if len(panels) > 1 else "")
    if points["n"].max() > 1:
        seeds = len(document.parts[0].section.seeds)
        words += f". Mean over {seeds} seeds, bands: 95 % Student-t interval."
    else:
        words += ". One seed."
    if points["shared"].any():
        words += " Dashed: run once, equal at every batch by construction."
    return drawing, words


def panel(axes: Axes, points: pd.DataFrame, looks: dict[str, Look]) -> None:
    """One set of lines over a log2 axis, large batches left as in the GN paper. The axis ends early
    if a few values lie so far up that the others would be one line; these are written there."""
    xs = sorted(points["column"].unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs, [f"{x:g}" for x in xs])
    axes.set_xticks([], minor=True)
    axes.set_xlim(xs[-1] * 1.12, xs[0] / 1.12)
    for row, line in points.groupby("row", sort=False):
        draw_line(axes, line.set_index("column").sort_index(), looks[str(row)])
    usual, most = points["mean"].median(), points["mean"].max()
    top = 1.9 * usual if most > 2.6 * usual else None
    axes.set_ylim(*extent(points, top))
    ends: list[tuple[float, str, str]] = []
    point: Any
    for _, line in points.groupby("row", sort=False):
        for point in line.itertuples():
            colour = looks[point.row].colour
            beyond = f"↑ {point.mean:.0f}" if top is not None and point.mean > top else ""
            if point.column == line["column"].min():
                ends.append((point.mean, f"{point.row} {beyond}".rstrip(), colour))
            elif beyond:
                axes.annotate(
                    beyond, (point.column, top), xytext=(-4, -4), textcoords="offset points",
                    ha="right", va="top", fontsize=7, color=colour,
                )  # fmt: skip
    label_ends(axes, ends)


def extent(points: pd.DataFrame, top: float | None) -> tuple[float, float]:
    """The limits of the axis: around the means, with room for intervals up to half as far again, and
    inside 0 to 100."""
    mean, half = points["mean"], points["half"].fillna(0)
    room = 0.5 * max(mean.max() - mean.min(), 2.0)
    low = max((mean - half).min(), mean.min() - room) - 0.06 * room
    high = min((mean + half).max(), mean.max() + room) + 0.06 * room
    return max(low, 0.0), min(high, 100.0) if top is None else top


def draw_line(axes: Axes, line: pd.DataFrame, look: Look) -> None:
    """Means and intervals; a line that was run once has no points of its own."""
    shared = bool(line["shared"].iloc[0])
    more: dict[str, Any] = {"linestyle": SHARED if shared else look.dash}
    if not shared or len(line) == 1:
        more |= {"marker": look.marker, "mec": "white", "mew": 0.5}
    mean, half = line["mean"], line["half"]
    band(axes, mean, mean - half, mean + half, look.colour, **more)
