"""Parameters between 0 and 1 by channel and by layer: BIN's gate ρ (BIN paper, 2018), and how far
channel means spread over images (RBN paper, 2021, the stability figure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report import names
from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, about, looks, parameter
from normbench.report.figures.style import BARS, Look, legend_below, sheet, whole_numbers
from normbench.report.layout import in_order
from normbench.report.summaries import BINS, pooled, shares


def gate(document: Document) -> tuple[Drawing, str] | str:
    """The figure of BIN's gates and its caption."""
    points = parameter(document, "gate")
    if points.empty:
        return f"{LACKS} gates in learned.csv, nor records"
    if points["column"].nunique() > 1:
        key = document.experiment.columns or ""
        points["row"] += ", " + points["column"].map(lambda value: names.setting(key, value))
    drawing, left, right = panels(document, points, looks(document, points))
    left.set(title="Gate of each channel", xlabel="ρ (0: IN, 1: BN)")
    right.set(title="Mean gate by layer", xlabel="layer, in the order of the network", ylabel="ρ")
    right.set_ylim(0, 1.03)
    words = (
        "BIN's gates after training: share of the channels, and mean over the channels of a layer."
    )
    return drawing, f"{words} All seeds together. {about(document)}"


def distribution(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the spread of channel means and its caption."""
    points = parameter(document, "mean_deviation")
    if points.empty:
        return f"{LACKS} spread of channel means in learned.csv, nor records"
    drawing, left, right = panels(document, points, looks(document))
    left.set(title="Each channel", xlabel="deviation of the mean / of all pixels")
    right.set(title="Mean over channels", xlabel="layer without activation, in order")
    right.set_ylabel("deviation of the mean / of all pixels")
    right.set_ylim(bottom=0)
    return drawing, (
        "Deviation over test images of the mean of a channel, as a share of the deviation of all its"
        f" pixels, behind the norms that have no activation. All seeds together. {about(document)}"
    )


def drift(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the means of channels before their norms, by layer: what Brock et al. 2021 (arXiv
    2101.08692) call mean shift."""
    points = parameter(document, "mean_shift")
    if points.empty:
        return f"{LACKS} means of channels in learned.csv, nor records"
    columns = in_order(list(points["column"]))
    drawing, grid = sheet(1, len(columns), 3.0, document.view.width, sharey=True)
    drawn = looks(document)
    for axes, column in zip(grid.flat, columns, strict=True):
        some = points[[value == column for value in points["column"]]]
        for row, line in some.groupby("row", sort=False):
            axes.plot(pooled(line, ["depth"])["rms"], label=row, **drawn[str(row)].line)
        axes.set(xlabel="layer, in the order of the network")
        axes.set_title(names.setting(document.experiment.columns or "", column))
        whole_numbers(axes)
    grid.flat[0].set_ylabel("mean of a channel / its deviation")
    grid.flat[0].set_ylim(bottom=0)
    legend_below(drawing, *shown_once(grid.flat))
    return drawing, (
        "How far the mean over all test images of a channel lies from 0 before its norm, in its"
        " deviations: root mean square over channels, by layer. All seeds together."
        f" {about(document)}"
    )


CALIBRATION = {
    "center_weight": "weight of the centring, $w_m$",
    "scale_weight": "weight of the scaling, $w_v$",
    "scale_bias": "bias of the scaling, $w_b$",
}


def calibration(document: Document) -> tuple[Drawing, str] | str:
    """The figure of what RBN's calibrations learned, by layer; RBN paper (2021), the figure of its
    weights."""
    found = {name: parameter(document, name) for name in CALIBRATION}
    if all(points.empty for points in found.values()):
        return f"{LACKS} weights of RBN in learned.csv, nor records"
    drawing, grid = sheet(1, len(found), 2.7, document.view.width)
    drawn = looks(document)
    for axes, (name, points) in zip(grid.flat, found.items(), strict=True):
        for index, (row, line) in enumerate(points.groupby("row", sort=False)):
            by_layer, style = pooled(line, ["depth"]), {**BARS, **drawn[str(row)].line}
            mean = by_layer["mean"]
            reach = [mean - by_layer["min"], by_layer["max"] - mean]
            axes.errorbar(by_layer.index + 0.12 * index, mean, yerr=reach, label=row, **style)
        axes.set(title=CALIBRATION[name], xlabel="layer, in network order")
        whole_numbers(axes)
    legend_below(drawing, *shown_once(grid.flat))
    return drawing, (
        "RBN's learned weights by layer, all seeds together: mean over channels, and from the least to"
        f" the greatest channel. They begin at 0, 0 and 1. {about(document)}"
    )


def shown_once(every: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """The handles and names of the lines of all panels, each name once."""
    found = {
        name: line
        for axes in every
        for line, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    return list(found.values()), list(found)


def panels(
    document: Document, points: pd.DataFrame, looks: dict[str, Look]
) -> tuple[Drawing, Axes, Axes]:
    """The drawing and its panels: the histogram of each row's channels, and their mean by layer."""
    drawing, grid = sheet(1, 2, 2.8, document.view.width)
    left, right = grid.flat
    for row, line in points.groupby("row", sort=False):
        look = looks[str(row)]
        style = {"color": look.colour, "linestyle": look.dash}
        left.stairs(shares(line), np.linspace(0, 1, BINS + 1), linewidth=1.6, **style)
        right.plot(pooled(line, ["depth"])["mean"], label=row, **look.line)
    left.set_ylabel("channels, %")
    left.set_ylim(0, min(left.get_ylim()[1], 100))
    whole_numbers(right)
    if points["row"].nunique() > 1:
        legend_below(drawing, *right.get_legend_handles_labels())
    return drawing, left, right
