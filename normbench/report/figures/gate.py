"""BIN's gate ρ: how many channels are batch and how many instance normalized; BIN paper (2018)."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import layers, ours
from normbench.report.figures.style import OTHERS, sheet, whole_numbers
from normbench.report.tables import title

BINS = 20


def draw(document: Document) -> tuple[Drawing, str] | None:
    """The figure and its caption; None where no run has gates."""
    found = {
        f"{line.name}, {title(document.experiment.columns, column)}": gates
        for line in ours(document)
        for column, cell in line.cells.items()
        if (gates := layers(cell, "gate"))
    }
    if not found:
        return None
    drawing, grid = sheet(1, 2, 2.8)
    left, right = grid[0]
    for (name, gates), (colour, marker) in zip(found.items(), OTHERS, strict=False):
        every = [value for runs in gates.values() for run in runs for value in run]
        edges = [i / BINS for i in range(BINS + 1)]
        weights = [100 / len(every)] * len(every)
        left.hist(
            every, edges, weights=weights, color=colour, alpha=0.85 / len(found) ** 0.5, label=name
        )
        means = [sum(map(sum, runs)) / sum(map(len, runs)) for runs in gates.values()]
        right.plot(range(1, len(means) + 1), means, color=colour, marker=marker, label=name)
    left.set(title="Gate of each channel", xlabel="ρ (0: IN, 1: BN)", ylabel="channels, %")
    right.set(
        title="Mean gate by layer", xlabel="layer, in the order of the network", ylim=(0, 1.03)
    )
    whole_numbers(right)
    if len(found) > 1:
        left.legend()
    return drawing, "BIN's gates after training, all seeds: share of channels, and mean by layer."
