"""Test error in each domain of a mixed dataset; BIN paper (2018), the mixed-domain table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, joined
from normbench.report.figures.style import look, sheet
from normbench.report.values import keys_of

BEGIN = "test_top1_percent"  # of the columns: its own is over all domains


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption: for each row of the table a line of dots over the domains."""
    frame = document.frames.curves
    keys = [BEGIN, *keys_of(frame, f"{BEGIN}.")]
    if len(keys) == 1:
        return f"{LACKS} accuracy by domain in curves.csv, nor records"
    last = frame.sort_values("epoch").groupby("run").tail(1)
    points = joined(document, last[["run", *keys]]).dropna(subset=keys)
    if points.empty:
        return f"{LACKS} result yet"
    drawing, [[axes]] = sheet(1, 1, 3.0)
    rows = list(dict.fromkeys(points["row"]))
    for number, (row, style) in enumerate(look(rows).items()):
        errors = 100 - points.loc[points["row"] == row, keys].astype(float)
        mean, apart = errors.mean(), 0.12 * (number - (len(rows) - 1) / 2)
        reach: Any = [mean - errors.min(), errors.max() - mean]
        axes.errorbar(
            [place + apart for place in range(len(keys))], mean, yerr=reach,
            fmt=style.marker, color=style.colour, elinewidth=1, label=row,
        )  # fmt: skip
    axes.set_xticks(range(len(keys)), ["all", *(key.removeprefix(f"{BEGIN}.") for key in keys[1:])])
    axes.set_ylabel("test error, %")
    drawing.legend(loc="outside lower center", ncols=min(4, len(rows)))
    words = "Test error after the last epoch, over all test images and over those of each domain"
    seeds = points["seed"].nunique()
    return drawing, words + (
        f": mean of {seeds} seeds, lines from the least to the greatest." if seeds > 1 else "."
    )
