"""The figures of a report, drawn for print. matplotlib is imported here and below only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from matplotlib.style import context

from normbench.report.document import Document, Figure
from normbench.report.figures import (
    activation,
    batch_size,
    curves,
    distribution,
    epsilon,
    gate,
    ratios,
)
from normbench.report.figures.style import RULES, saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

# name -> draws the first section; None where the records have nothing to show
FIGURES: dict[str, Callable[[Document], tuple[Drawing, str] | None]] = {
    "batch_size": batch_size.draw,
    "curves": curves.draw,
    "activation": activation.draw,
    "epsilon": epsilon.draw,
    "ratios": ratios.draw,
    "gate": gate.draw,
    "distribution": distribution.draw,
}


def draw(document: Document, formats: Iterable[str]) -> list[Figure]:
    """The figures that the experiment names, of its first section, in the formats needed."""
    made = []
    with context(RULES, after_reset=True):
        for name in document.experiment.figures:
            drawn = FIGURES[name](document) if name in FIGURES else None
            if drawn is not None:
                made.append(saved(name, *drawn, formats=formats))
    return made
