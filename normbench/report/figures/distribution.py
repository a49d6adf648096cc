"""How far channel means spread over images behind each norm; RBN paper (2021), the stability figure."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import layers, ours
from normbench.report.figures.style import look, sheet, whole_numbers

BINS = 24


def draw(document: Document) -> tuple[Drawing, str] | None:
    """The figure and its caption; None where no run has recorded the spreads."""
    found = {
        line.name: spreads
        for line in ours(document)
        for cell in line.cells.values()
        if (spreads := layers(cell, "mean_deviation"))
    }
    if not found:
        return None
    drawing, grid = sheet(1, 2, 2.8)
    left, right = grid[0]
    looks = look(list(found))
    for name, spreads in found.items():
        colour, marker = looks[name].colour, looks[name].marker
        every = [value for runs in spreads.values() for run in runs for value in run]
        weights = [100 / len(every)] * len(every)
        left.hist(
            every, [i / BINS for i in range(BINS + 1)], weights=weights, histtype="step",
            linewidth=1.6, color=colour, label=name,
        )  # fmt: skip
        means = [sum(map(sum, runs)) / sum(map(len, runs)) for runs in spreads.values()]
        right.plot(range(1, len(means) + 1), means, color=colour, marker=marker, label=name)
    left.set(
        title="Each channel", xlabel="deviation of the mean / of all pixels", ylabel="channels, %"
    )
    right.set(title="Mean over channels, by layer", xlabel="layer without activation, in order")
    right.set_ylim(bottom=0)
    whole_numbers(right)
    left.legend()
    return drawing, (
        "Deviation over test images of the mean of a channel, as a share of the deviation of all its"
        " pixels, behind the norms that have no activation; all seeds."
    )
