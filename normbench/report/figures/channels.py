"""Parameters between 0 and 1 by channel and by layer: BIN's gate ρ (BIN paper, 2018), and how far
channel means spread over images (RBN paper, 2021, the stability figure)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, parameter
from normbench.report.figures.style import OTHERS, Look, band, look, sheet, whole_numbers
from normbench.report.layout import title
from normbench.report.summaries import BINS, pooled, shares


def gate(document: Document) -> tuple[Drawing, str] | str:
    """The figure of BIN's gates and its caption."""
    points = parameter(document, "gate")
    if points.empty:
        return f"{LACKS} gates in learned.csv, nor records"
    heads = points["column"].map(lambda value: title(document.experiment.columns, value))
    points["row"] += ", " + heads
    names = points["row"].unique()
    looks = {name: Look(*OTHERS[i % len(OTHERS)]) for i, name in enumerate(names)}
    drawing, left, right = panels(points, looks)
    left.set(title="Gate of each channel", xlabel="ρ (0: IN, 1: BN)")
    right.set(title="Mean gate by layer", xlabel="layer, in the order of the network")
    right.set_ylim(0, 1.03)
    if len(names) > 1:
        drawing.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawing, "BIN's gates after training, all seeds: share of channels, and mean by layer."


def distribution(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the spread of channel means and its caption."""
    points = parameter(document, "mean_deviation")
    if points.empty:
        return f"{LACKS} spread of channel means in learned.csv, nor records"
    drawing, left, right = panels(points, look(points["row"].unique()))
    left.set(title="Each channel", xlabel="deviation of the mean / of all pixels")
    right.set(title="Mean over channels, by layer", xlabel="layer without activation, in order")
    right.set_ylim(bottom=0)
    left.legend()
    return drawing, (
        "Deviation over test images of the mean of a channel, as a share of the deviation of all its"
        " pixels, behind the norms that have no activation; all seeds."
    )


def drift(document: Document) -> tuple[Drawing, str] | str:
    """The figure of the means of channels before their norms, by layer: what Brock et al. 2021 (arXiv
    2101.08692) call mean shift."""
    points = parameter(document, "mean_shift")
    if points.empty:
        return f"{LACKS} means of channels in learned.csv, nor records"
    heads = [title(document.experiment.columns, value) for value in points["column"]]
    drawing, grid = sheet(1, points["column"].nunique(), 3.0, sharey=True)
    names = look(points["row"].unique())
    for axes, (head, some) in zip(grid[0], points.groupby(heads, sort=False), strict=True):
        for row, line in some.groupby("row", sort=False):
            style = names[str(row)]
            axes.plot(
                pooled(line, ["depth"])["rms"], color=style.colour, linestyle=style.dash,
                marker=style.marker, label=row,
            )  # fmt: skip
        axes.set(title=head, xlabel="layer, in the order of the network")
        whole_numbers(axes)
    grid[0][0].set_ylabel("mean of a channel / its deviation")
    grid[0][0].set_ylim(bottom=0)
    drawing.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawing, (
        "How far the mean over all test images of a channel lies from 0 before its norm, in its"
        " deviations: root mean square over channels, by layer, all seeds."
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
    drawing, grid = sheet(1, len(found), 2.7)
    for axes, (name, points) in zip(grid[0], found.items(), strict=True):
        for row, line in points.groupby("row", sort=False):
            style, by_layer = look(points["row"].unique())[str(row)], pooled(line, ["depth"])
            more: dict[str, Any] = {"linestyle": style.dash, "marker": style.marker}
            band(axes, by_layer["mean"], by_layer["min"], by_layer["max"], style.colour, **more)
        axes.set(title=CALIBRATION[name], xlabel="layer, in network order")
        whole_numbers(axes)
    return drawing, (
        "RBN's learned weights by layer, all seeds: mean over channels, and from the least to the"
        " greatest channel. They begin at 0, 0 and 1."
    )


def panels(points: pd.DataFrame, looks: dict[str, Look]) -> tuple[Drawing, Axes, Axes]:
    """The drawing and its panels: the histogram of each row's channels, and their mean by layer."""
    drawing, grid = sheet(1, 2, 2.8)
    left, right = grid[0]
    for row, line in points.groupby("row", sort=False):
        look = looks[str(row)]
        style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "label": row}
        left.stairs(shares(line), np.linspace(0, 1, BINS + 1), linewidth=1.6, **style)
        right.plot(pooled(line, ["depth"])["mean"], marker=look.marker, **style)
    left.set_ylabel("channels, %")
    whole_numbers(right)
    return drawing, left, right
