"""The statistics that SN mixes, by batch and by layer; SN paper (2019), figure of the ratios."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from normbench.report.document import Document
from normbench.report.figures.lines import LACKS, about, parameter
from normbench.report.figures.style import NORMS, sheet, whole_numbers
from normbench.report.published import select

COLOURS = {norm: NORMS[norm][0] for norm in ("in", "ln", "bn")}
SHARES = {"mean_weight": "Mixing of means", "var_weight": "Mixing of variances"}
RAMP = ("#C6DBEF", "#9ECAE1", "#6BAED6", "#4292C6", "#2171B5", "#08519C", "#08306B")


def draw(document: Document) -> tuple[Drawing, str] | str:
    """The figure and its caption."""
    found = {key: shares(document, key) for key in SHARES}
    if found["mean_weight"].empty:
        return f"{LACKS} weights of SN in learned.csv, nor records"
    drawing, grid = sheet(2, 3, 4.6, document.view.width)
    above, below = grid.flat[:3], grid.flat[3:]
    for top, bottom, (key, heading) in zip(above, below, SHARES.items(), strict=False):
        stacked(top, found[key])
        top.set_title(heading)
        by_layer(bottom, found[key])
        bottom.set_title(f"BN's share of the {heading.split()[-1]}")
        bottom.set_xlabel("layer, in the order of the network")
    stacked(above[2], published())
    above[2].set_title("SN paper, ResNet-50\n(read off its figure)")
    for axes in grid.flat[:: 3 if grid.shape[1] == 3 else 1]:
        axes.set_ylabel("share, mean over layers" if axes in above else "BN's share")
    handles, labels = above[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=3, handlelength=1)
    below[2].axis("off")
    handles, labels = below[0].get_legend_handles_labels()
    below[2].legend(
        handles, labels, loc="center left", title="workers × images per worker", ncols=2
    )
    return drawing, (
        "The shares of IN, LN and BN in SN's statistics, by workers × images per worker, mean over"
        f" layers and seeds; and BN's share by layer. {about(document)}"
    )


def shares(document: Document, key: str) -> pd.DataFrame:
    """A row for each (workers, batch, statistic, layer), many workers and large batches first, with
    the `mean` share over seeds."""
    runs = document.frames.runs[["run", "workers", "batch"]]
    parts = [parameter(document, f"{key}.{part}").assign(statistic=part) for part in COLOURS]
    every = pd.concat(parts).merge(runs, on="run")
    keys = ["workers", "batch", "statistic", "depth"]
    found = every.astype({"mean": float}).groupby(keys, sort=False)["mean"].mean().reset_index()
    return found.sort_values(["workers", "batch"], ascending=False, kind="stable")


def published() -> pd.DataFrame:
    """The shares of the paper's figure."""
    rows = select({"paper": "Switchable Normalization", "table": "Figure 2"})
    shares = [{"statistic": row.metric[len("share_") :], "mean": float(row.value)} for row in rows]
    return pd.DataFrame(map(dict, (row.cell for row in rows))).join(pd.DataFrame(shares))


def stacked(axes: Axes, points: pd.DataFrame) -> None:
    """One bar for each (workers, batch), the shares of the statistics above each other."""
    mean = points.groupby(["workers", "batch", "statistic"], sort=False)["mean"].mean()
    wide = mean.unstack("statistic").reindex(columns=list(COLOURS)).fillna(0)
    wide = wide.sort_index(ascending=False)
    bottom = pd.Series(0.0, index=wide.index)
    for name, colour in COLOURS.items():
        style: dict[str, Any] = {"color": colour, "width": 0.8, "label": name.upper()}
        axes.bar(range(len(wide)), wide[name], bottom=bottom, **style)
        bottom += wide[name]
    labels = [f"{workers}×{batch}" for workers, batch in wide.index]
    axes.set_xticks(range(len(wide)), labels, rotation=90)
    axes.set_ylim(0, 1)
    axes.grid(axis="x", visible=False)


def by_layer(axes: Axes, points: pd.DataFrame) -> None:
    """BN's share in each layer, one line for each (workers, batch)."""
    mixed = points[points["statistic"] == "bn"]
    for (workers, batch), line in mixed.groupby(["workers", "batch"], sort=False):
        colour = RAMP[min(int(str(batch)), 64).bit_length() - 1]
        dash, label = ":" if workers == 1 else "-", f"{workers}×{batch}"
        axes.plot(line["depth"], line["mean"], color=colour, linestyle=dash, label=label)
    axes.set_ylim(0, 1)
    whole_numbers(axes)
