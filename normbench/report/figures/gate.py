"""BIN's gate ρ: how many channels are batch and how many instance normalized; BIN paper (2018)."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.heaps import heaps
from normbench.report.figures.lines import LACKS, parameter
from normbench.report.figures.style import OTHERS, Look
from normbench.report.layout import title


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    points = parameter(document, "gate")
    if points.empty:
        return f"{LACKS} gates in learned.csv, nor records"
    heads = points["column"].map(lambda value: title(document.experiment.columns, value))
    points = points.assign(line=points["row"] + ", " + heads)
    names = list(dict.fromkeys(points["line"]))
    looks = {name: Look(*OTHERS[i % len(OTHERS)]) for i, name in enumerate(names)}
    drawing, left, right = heaps(points, looks)
    left.set(title="Gate of each channel", xlabel="ρ (0: IN, 1: BN)")
    right.set(
        title="Mean gate by layer", xlabel="layer, in the order of the network", ylim=(0, 1.03)
    )
    if len(names) > 1:
        drawing.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawing, "BIN's gates after training, all seeds: share of channels, and mean by layer."
