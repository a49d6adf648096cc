"""How far channel means spread over images behind each norm; RBN paper (2021), the stability figure."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.heaps import heaps
from normbench.report.figures.lines import LACKS, parameter
from normbench.report.figures.style import look


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    points = parameter(document, "mean_deviation")
    if points.empty:
        return f"{LACKS} spread of channel means in learned.csv, nor records"
    points = points.assign(line=points["row"])
    drawing, left, right = heaps(points, look(list(dict.fromkeys(points["row"]))))
    left.set(title="Each channel", xlabel="deviation of the mean / of all pixels")
    right.set(title="Mean over channels, by layer", xlabel="layer without activation, in order")
    right.set_ylim(bottom=0)
    left.legend()
    return drawing, (
        "Deviation over test images of the mean of a channel, as a share of the deviation of all its"
        " pixels, behind the norms that have no activation; all seeds."
    )
