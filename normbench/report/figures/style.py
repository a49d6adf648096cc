"""How figures look, and how they are written: the same bytes for the same records."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from normbench.report.document import Figure

WIDTH = 7.2  # inches: the width of a text of two columns
QUIET = "#666666"
RULES = str(files("normbench.report.figures") / "print.mplstyle")  # for matplotlib.style.context

# Colours of Okabe & Ito 2008 and Tol 2021: told apart with any colour vision, and with the marker
# in print without colour.
NORMS: dict[str, tuple[str, str]] = {
    "bn": ("#D55E00", "o"), "gn": ("#0072B2", "s"), "frn": ("#009E73", "^"), "sn": ("#CC79A7", "D"),
    "rbn": ("#E69F00", "v"), "bin": ("#56B4E9", "P"), "brn": ("#882255", "X"), "ln": ("#999933", "<"),
    "in": ("#332288", ">"), "none": ("#000000", "*"), "gfrn": ("#44AA99", "h"), "lfrn": ("#117733", "p"),
    "lrn": ("#777777", "d"), "dn": ("#BBBBBB", "H"),
}  # fmt: skip
OTHERS = [
    *(("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v")),
    *(("#56B4E9", "P"), ("#882255", "X"), ("#999933", "<"), ("#332288", ">"), ("#000000", "*")),
]
DASHES: tuple[Any, ...] = ("-", (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
SHARED = (0, (5, 2))  # dashes of a line that was run once for all its points


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of a line."""

    colour: str
    marker: str
    dash: Any = "-"


def sheet(rows: int, columns: int, height: float, **more: Any) -> tuple[Drawing, Any]:
    """A drawing of the usual width (less for one panel), `height` inches high, with its axes."""
    drawing = Drawing(figsize=(WIDTH * (0.65 if rows * columns == 1 else 1), height))
    return drawing, drawing.subplots(rows, columns, squeeze=False, **more)


def whole_numbers(axes: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def band(
    axes: Axes, middle: Any, low: Any, high: Any, colour: str, alpha: float = 0.13, **line: Any
) -> None:
    """A line over the index of `middle`, and the area between `low` and `high` around it."""
    axes.plot(middle.index, middle, color=colour, **line)
    axes.fill_between(middle.index, low, high, color=colour, alpha=alpha, linewidth=0)


def look(names: Iterable[str]) -> dict[str, Look]:
    """How each line is drawn: in its norm's colour, a norm's further lines dotted; where a norm has
    more lines than there are styles, all have colours of their own."""
    norms = {name: name.split()[0].rstrip(",") if name else "" for name in names}
    every = list(norms.values())
    crowded = max(map(every.count, every), default=0) > len(DASHES)
    free = itertools.cycle(OTHERS)
    found: dict[str, Look] = {}
    for name, norm in norms.items():
        colour, marker = next(free) if crowded or norm not in NORMS else NORMS[norm]
        before = sum(colour == other.colour for other in found.values())
        found[name] = Look(colour, marker, DASHES[before % len(DASHES)])
    return found


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes names beside the right ends of lines, (y, name, colour), moved apart where they
    would meet. To be called when the limits are final; the axes are taken to be of one row."""
    low, high = axes.get_ylim()
    drawing = axes.get_figure(root=True)
    assert drawing is not None
    rows = axes.get_subplotspec().get_gridspec().nrows  # type: ignore[union-attr]
    inches = 0.75 * drawing.get_size_inches()[1] / rows
    places = spread([y for y, _, _ in ends], (high - low) * 0.12 / inches, low, high)
    right = axes.get_xlim()[1]
    for (_, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name, (right, place), xytext=(4, 0), textcoords="offset points", color=colour,
            fontsize=7.5, va="center", annotation_clip=False,
        )  # fmt: skip


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The values moved as little as needed to stand `gap` apart, inside [low, high]."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    placed = [min(max(values[i], low), high) for i in order]
    for _ in range(300):
        for a in range(len(placed) - 1):
            short = gap - (placed[a + 1] - placed[a])
            if short > 0:
                placed[a] = max(placed[a] - short / 2, low)
                placed[a + 1] = min(placed[a + 1] + short / 2, high)
    return [place for _, place in sorted(zip(order, placed, strict=True))]


def saved(name: str, drawing: Drawing, caption: str, kinds: Iterable[str]) -> Figure:
    """The drawing as files without date or version."""
    about: dict[str, Any] = {
        "svg": {"metadata": dict.fromkeys(("Date", "Creator", "Format", "Type"))},
        "png": {"metadata": {"Software": None}, "dpi": 200},
    }
    written = {}
    for kind in sorted(kinds):
        out = io.BytesIO()
        drawing.savefig(out, format=kind, **about[kind])
        written[kind] = out.getvalue()
    return Figure(name, caption, written)
