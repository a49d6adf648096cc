"""Test error in each domain of a mixed dataset; BIN paper (2018), the mixed-domain table."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures import lines
from normbench.report.figures.lines import INTERVAL_FROM, LACKS
from normbench.report.figures.style import BARS, dodge, legend_below, sheet, within_percent
from normbench.report.interval import estimate
from normbench.report.values import keys_of

BEGIN = "test_top1_percent"  # of the columns: its own is over all domains


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption: for each row of the table a line of dots over the domains."""
    frame = document.frames.curves
    keys = [BEGIN, *keys_of(frame, f"{BEGIN}.")]
    if len(keys) == 1:
        return f"{LACKS} accuracy by domain in curves.csv, nor records"
    last = frame.sort_values("epoch").groupby("run").tail(1)
    points = lines.joined(document, last[["run", *keys]]).dropna(subset=keys)
    if points.empty:
        return f"{LACKS} result yet"
    drawing, [[axes]] = sheet(1, 1, 3.0, document.view.width)
    groups = list(points.groupby("row", sort=False))
    looks = lines.looks(document)
    for index, (row, some) in enumerate(groups):
        values = [list(lines.as_shown(document, some[key])) for key in keys]
        found = [one for one in map(estimate, values) if one]
        half = [one.half if one.half and one.n >= INTERVAL_FROM else None for one in found]
        places = [place + 0.3 * dodge(index, len(groups)) for place in range(len(keys))]
        bars = {"yerr": pd.Series(half, dtype=float), **BARS}
        style = {**looks[str(row)].line, "linestyle": ""}
        axes.errorbar(places, [one.mean for one in found], label=row, **bars, **style)
        lines.points(axes, places, values, looks[str(row)].colour)
    axes.set_xticks(range(len(keys)), ["all", *(key.removeprefix(f"{BEGIN}.") for key in keys[1:])])
    axes.set_ylabel(f"{lines.measure(document)}, %")
    within_percent(axes)
    legend_below(drawing, *axes.get_legend_handles_labels())
    word = lines.measure(document).capitalize()
    words = f"{word} after the last epoch, over all test images and over those of each domain."
    n = points.groupby("cell")["run"].nunique()
    return drawing, f"{words}{lines.interval(n)} {lines.about(document)}"
