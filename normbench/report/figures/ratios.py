"""The statistics that SN mixes, by batch and by layer; SN paper (2019), figure of the ratios."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import layers
from normbench.report.figures.style import sheet, whole_numbers
from normbench.report.published import select
from normbench.report.study import Cell

COLOURS = {"in": "#56B4E9", "ln": "#E69F00", "bn": "#0072B2"}
SHARES = {"mean_weight": "Mixing of means", "var_weight": "Mixing of variances"}
RAMP = ("#C6DBEF", "#9ECAE1", "#6BAED6", "#4292C6", "#2171B5", "#08519C", "#08306B")


@dataclass
class Bar:
    """The shares of one (workers, batch), by statistic; each a share of 1."""

    workers: int
    batch: int
    shares: dict[str, float]


def draw(document: Document) -> tuple[Drawing, str] | None:
    """The figure and its caption; None where no run has mixing weights."""
    cells = [cell for cell in document.parts[0].section.cells if layers(cell, "mean_weight")]
    if not cells:
        return None
    drawing, grid = sheet(2, 3, 4.6)
    for axes, (key, heading) in zip(grid[0], SHARES.items(), strict=False):
        stacked(axes, [Bar(*shape(cell), average(cell, key)) for cell in cells])
        axes.set_title(heading)
    stacked(grid[0][2], published())
    grid[0][2].set_title("SN paper, ResNet-50\n(read off its figure)")
    grid[0][0].set_ylabel("share, mean over layers")
    drawing.legend(
        *grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3, handlelength=1
    )
    for axes, key in zip(grid[1], SHARES, strict=False):
        by_layer(axes, cells, key)
        axes.set_xlabel("layer, in the order of the network")
    grid[1][0].set_ylabel("BN's share")
    grid[1][2].set_visible(False)
    handles, labels = grid[1][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc=(0.74, 0.08), title="workers × batch", ncols=1)
    return drawing, (
        "Above: the shares of IN, LN and BN in SN's statistics by workers × images per worker, mean"
        " over layers and seeds. Below: BN's share by layer."
    )


def shape(cell: Cell) -> tuple[int, int]:
    """Workers and images per worker of a cell."""
    values = next(iter(cell.runs.values())).values
    return values["workers"], values["batch"]


def using(cell: Cell) -> tuple[str, ...]:
    return tuple(next(iter(cell.runs.values())).values["norm.using"])


def average(cell: Cell, key: str) -> dict[str, float]:
    """The share of each statistic, mean over layers and seeds."""
    every = [run for runs in layers(cell, key).values() for run in runs]
    return {name: sum(w[i] for w in every) / len(every) for i, name in enumerate(using(cell))}


def published() -> list[Bar]:
    """The shares of the paper's figure."""
    bars: dict[tuple[int, int], Bar] = {}
    for row in select({"paper": "Switchable Normalization", "table": "Figure 2"}):
        cell = dict(row.cell)
        at = cell["workers"], cell["batch"]
        bars.setdefault(at, Bar(*at, {})).shares[row.metric.removeprefix("share_")] = float(
            row.value
        )
    return list(bars.values())


def stacked(axes: Axes, bars: list[Bar]) -> None:
    """One bar for each (workers, batch), many workers and large batches first."""
    bars = sorted(bars, key=lambda bar: (-bar.workers, -bar.batch))
    bottoms = [0.0] * len(bars)
    for name, colour in COLOURS.items():
        heights = [bar.shares.get(name, 0.0) for bar in bars]
        axes.bar(
            range(len(bars)), heights, bottom=bottoms, color=colour, width=0.8, label=name.upper()
        )
        bottoms = [b + h for b, h in zip(bottoms, heights, strict=True)]
    axes.set_xticks(range(len(bars)), [f"{bar.workers}×{bar.batch}" for bar in bars], rotation=90)
    axes.set_ylim(0, 1)
    axes.grid(axis="x", visible=False)


def by_layer(axes: Axes, cells: list[Cell], key: str) -> None:
    """BN's share in each layer, one line for each (workers, batch)."""
    mixed = [cell for cell in cells if "bn" in using(cell)]
    mixed.sort(key=lambda cell: (-shape(cell)[0], -shape(cell)[1]))
    for cell in mixed:
        at = using(cell).index("bn")
        found = layers(cell, key).values()
        shares = [sum(run[at] for run in runs) / len(runs) for runs in found]
        workers, batch = shape(cell)
        few = workers == 1
        axes.plot(
            range(1, len(shares) + 1),
            shares,
            color=RAMP[min(batch, 64).bit_length()],
            linestyle=":" if few else "-",
            label=f"{workers}×{batch}",
        )
    axes.set_ylim(0, 1)
    whole_numbers(axes)
