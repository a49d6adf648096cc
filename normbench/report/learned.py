"""Tables of what the norms learned: SN's shares, TLU's thresholds, the spread of channel means."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from normbench.report.experiment import Experiment
from normbench.report.study import Section
from normbench.report.summaries import pooled
from normbench.report.tables import Table, against, estimates, grid, numbers, paired, pretty

NAMED = 4  # layers shown one by one; of more the first and the last


@dataclass(frozen=True)
class Kind:
    """A table: which parameters it shows and by which summary; `less`: also the differences."""

    title: str
    parameters: tuple[str, ...]
    summary: str = "mean"
    less: bool = False


KINDS = (
    Kind("Shares of the means that SN mixes", ("mean_weight.in", "mean_weight.ln", "mean_weight.bn")),
    Kind("Shares of the variances that SN mixes", ("var_weight.in", "var_weight.ln", "var_weight.bn")),
    Kind("Thresholds τ of TLU, root mean square over channels", ("tau",), "rms"),
    Kind("BIN's gates ρ, mean over channels", ("gate",)),
    Kind("Mean of a channel before its norm, in its deviations, root mean square over channels",
         ("mean_shift",), "rms"),
    Kind("Deviation over images of the channel means, as a share of that of all pixels",
         ("mean_deviation",), less=True),
)  # fmt: skip


def learned_tables(experiment: Experiment, section: Section, learned: pd.DataFrame) -> list[Table]:
    """A table for each kind of parameter that the section's runs learned, mean ± half-width over
    seeds, over all layers and by layer."""
    made = []
    for kind in KINDS:
        values = by_run(section, learned, kind)
        if len(values):
            made.append(table(experiment, section, values, kind, less=False))
            made += [table(experiment, section, values, kind, less=True)] if kind.less else []
    return [one for one in made if one.rows]


def by_run(section: Section, learned: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """A row a run of the section, a column for each (parameter, layer), the layer `all` first."""
    own = learned[
        learned["parameter"].isin(kind.parameters) & learned["run"].isin(list(section.runs["run"]))
    ]
    if own.empty:
        return own
    layers = list(dict.fromkeys(own["layer"]))
    shown = layers if len(layers) <= NAMED else [layers[0], layers[-1]]
    every = pd.concat([own.assign(layer="all"), own[own["layer"].isin(shown)]])
    wide = pooled(every, ["run", "parameter", "layer"])[kind.summary].unstack(
        ["parameter", "layer"]
    )
    order = [(p, layer) for p in kind.parameters for layer in ["all", *shown]]
    return wide[[pair for pair in order if pair in wide.columns]]


def table(
    experiment: Experiment, section: Section, values: pd.DataFrame, kind: Kind, less: bool
) -> Table:
    """Rows of the study, of each its parameters and layers; `less`: less the baseline at that seed."""
    cells, several = section.cells, len(kind.parameters) > 1
    heads: dict[int, tuple[str, ...]] = dict(cells["head"])
    entries, tidy, values_of = [], [], section.values()
    pairs = [(str(pair[0]), str(pair[1])) for pair in values.columns.to_flat_index()]
    found = {}
    for pair in pairs:
        of_runs = section.runs["run"].map(values[pair])
        of_runs = paired(experiment, section, of_runs) if less else of_runs
        found[pair] = estimates(section, of_runs)
    for cell in cells.index:
        for (parameter, layer), of_cells in found.items():
            if cell in of_cells:
                part = [parameter.rpartition(".")[2]] if several else []
                head = (*heads[cell], *part, layer)
                shown = pretty(of_cells[cell], "+" if less else "")
                entries.append((head, cells.at[cell, "column"], shown))
                about = {"parameter": parameter, "layer": layer}
                tidy.append({**values_of[cell], **about, **numbers(of_cells[cell])})
    frame = pd.DataFrame(entries, columns=["head", "column", "entry"], dtype=object)
    beside = ["statistic", "layers"] if several else ["layers"]
    made = grid(experiment, frame, frame, beside)
    made.title, made.tidy = kind.title, tidy
    if less:
        made.title += f": difference to {against(experiment)} at the same seed"
    return made
