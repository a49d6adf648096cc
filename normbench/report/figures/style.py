"""How figures look, and how they are written: the same bytes for the same records."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from normbench.report.document import WIDTHS, Figure

WIDTH = WIDTHS["page"]
QUIET = "#666666"
RULES = str(files("normbench.report.figures") / "print.mplstyle")  # for matplotlib.style.context

# Colours of Okabe & Ito 2008 and Tol 2021 for the first norms. Norms with the same marker differ much
# in colour, so that any two are told apart.
NORMS: dict[str, tuple[str, str]] = {
    "bn": ("#D55E00", "o"), "gn": ("#0072B2", "s"), "frn": ("#009E73", "^"), "sn": ("#CC79A7", "D"),
    "rbn": ("#E69F00", "v"), "bin": ("#56B4E9", "P"), "brn": ("#882255", "X"), "ln": ("#999933", "<"),
    "in": ("#332288", ">"), "none": ("#000000", "*"), "gfrn": ("#44AA99", "h"),
    "lfrn": ("#117733", "p"), "lrn": ("#9E9E9E", "d"), "dn": ("#A6761D", "H"),
    "bgn": ("#B2182B", "^"), "bcn": ("#6A3D9A", "v"), "iebn": ("#FF7F7F", "D"), "ssn": ("#8C6BB1", "<"),
    "mode": ("#66A61E", "8"), "mabn": ("#17BECF", "8"), "ibn": ("#3B5BDB", "p"), "grn": ("#7F3B08", "P"),
    "evonorm_b0": ("#A50F5E", ">"), "evonorm_s0": ("#00441B", "X"), "rms": ("#C49A00", "*"),
    "dyt": ("#4D4D4D", "d"), "ln2d": ("#5E8C31", "s"), "pono": ("#B58BE0", "o"),
    "iternorm": ("#08519C", "D"), "dbn": ("#E7298A", "^"),
}  # fmt: skip
OTHERS = [
    NORMS[norm] for norm in ("gn", "bn", "frn", "sn", "rbn", "bin", "brn", "ln", "in", "none")
]
DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.2)),
    (0, (1, 1.2)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
BARS: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.5}  # of errorbar: how intervals look
SHARED = (0, (5, 2))  # dashes of a line that was run once for all its points


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of a line."""

    colour: str
    marker: str
    dash: Any = "-"

    @property
    def line(self) -> dict[str, Any]:
        """The arguments of matplotlib's plot and errorbar; crosses and stars need to be larger."""
        rim = {"markeredgecolor": "white", "markeredgewidth": 0.4}
        size = {"markersize": 5.5 if self.marker in "PX*" else 4}
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dash, **rim, **size}


def look(norms: Mapping[str, str]) -> dict[str, Look]:
    """How each line is drawn, by its name; `norms`: the norm of each.

    A norm's first line is in the norm's own colour, its further ones in the same with other markers
    and dashes; the lines of a user's own norm, and of a norm that is alone or has more lines than
    there are dashes, in colours that no other line has.
    """
    every = list(norms.values())
    found: dict[str, Look] = {}
    taken = {NORMS[norm] for norm in every if norm in NORMS}
    for name, norm in norms.items():
        before = [found[one] for one in found if norms[one] == norm]
        alone = len(every) > 1 and (len(set(every)) == 1 or every.count(norm) > len(DASHES))
        if norm in NORMS and (not before or not alone):
            colour = NORMS[norm][0]
            marker = NORMS[norm][1] if not before else free(taken, 1)
        else:
            colour, marker = free(taken, 0), free(taken, 1)
        taken.add((colour, marker))
        found[name] = Look(colour, marker, DASHES[len(before) % len(DASHES)])
    return found


def free(taken: Iterable[tuple[str, str]], part: int) -> Any:
    """The first colour (part 0) or marker (1) that is not taken, or the one that is least."""
    used = [one[part] for one in taken]
    return min((one[part] for one in [*OTHERS, *NORMS.values()]), key=used.count)


def sheet(
    rows: int, columns: int, height: float, width: str = "page", beside: bool = False, **more: Any
) -> tuple[Drawing, Any]:
    """A drawing as wide as a page (less for one panel) or a column, `height` inches high, and its
    axes. In a column, panels stand below each other, unless they are small and stay `beside`."""
    inches = WIDTHS[width]
    if width == "column" and columns > 1 and not beside:
        height *= 0.85 * columns
        rows, columns = rows * columns, 1
    elif rows * columns == 1 and width == "page":
        inches *= 0.65
    drawing = Drawing(figsize=(inches, height))
    return drawing, drawing.subplots(rows, columns, squeeze=False, **more)


def whole_numbers(axes: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def within_percent(axes: Axes) -> None:
    """The vertical axis ends at 0 and at 100."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100))


def legend_below(drawing: Drawing, handles: Sequence[Any], names: Sequence[str]) -> None:
    """One legend for all panels, in as many rows as its names take, of about equal length."""
    longest = 0.55 + 0.062 * max(map(len, names))  # inches of an entry
    fit = max(1, int(drawing.get_figwidth() / longest))
    rows = math.ceil(len(names) / fit)
    drawing.set_figheight(drawing.get_figheight() + 0.17 * (rows - 1))
    columns = math.ceil(len(names) / rows)
    drawing.legend(handles, names, loc="outside lower center", ncols=columns, columnspacing=1.4)


def dodge(index: int, count: int) -> float:
    """How far the line `index` of `count` stands beside its place, -1 to 1, so that bars of several
    do not cover each other."""
    return 2 * index / (count - 1) - 1 if count > 1 else 0.0


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes names beside the axes, each at the height of its line's end, (x, y, name, colour): moved
    apart where they would meet, with leaders from the ends then, and where a line ends early. To be
    called when the limits are final."""
    drawing = axes.get_figure(root=True)
    assert isinstance(drawing, Drawing)
    drawing.draw_without_rendering()
    ends = sorted(ends, key=lambda end: end[1])
    gap = 9.0 / 72 * drawing.dpi / axes.get_window_extent().height
    turn = axes.transData + axes.transAxes.inverted()
    at = np.clip(turn.transform([end[:2] for end in ends]), 0, 1)  # as fractions of the axes
    places = spread(list(at[:, 1]), gap, 0, 1)
    leaders = np.abs(at[:, 1] - places).max() > 0.2 * gap or at[:, 0].min() < 0.8
    for (x, y), place, (_, _, name, colour) in zip(at, places, ends, strict=True):
        style = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name, (x, y), xytext=(1.06 if leaders else 1.02, place), xycoords="axes fraction",
            color=colour, fontsize=7.5, va="center", annotation_clip=False,
            arrowprops={**style, "relpos": (0, 0.5)} if leaders else None,
        )  # fmt: skip


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The values moved as little as needed to stand `gap` apart, inside [low, high] if they fit."""
    order = np.argsort(values, kind="stable")
    placed = [min(max(values[i], low), high) for i in order]
    for _ in range(300):
        for a in range(len(placed) - 1):
            short = gap - (placed[a + 1] - placed[a])
            if short > 0:
                placed[a] = max(placed[a] - short / 2, low)
                placed[a + 1] = min(placed[a + 1] + short / 2, high)
    return [place for _, place in sorted(zip(order, placed, strict=True))]


def saved(name: str, drawing: Drawing, caption: str, kinds: Iterable[str]) -> Figure:
    """The drawing as files without date or version, each with its caption inside."""
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    about: dict[str, Any] = {
        "svg": {"metadata": {**nothing, "Description": caption}},
        "png": {"metadata": {"Software": None, "Description": caption}, "dpi": 200},
        "pdf": {
            "metadata": {
                "CreationDate": None,
                "Creator": None,
                "Producer": None,
                "Subject": caption,
            }
        },
    }
    written = {}
    for kind in sorted(kinds):
        out = io.BytesIO()
        drawing.savefig(out, format=kind, **about[kind])
        written[kind] = out.getvalue()
    return Figure(name, caption, written)
