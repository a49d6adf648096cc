"""The runs of a study's section, as contrasts are estimated from them.

What is independent is a training. Several evaluations of one trained network are not so many runs: a
contrast of evaluations is taken within each training, and its noise is that of the trainings.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normbench.errors import UserError
from normbench.report.claims.estimate import Design, Estimated
from normbench.report.evaluations import KEY, RUNNING
from normbench.report.study import Section
from normbench.report.values import rows, token

Weights = Mapping[Hashable, float]
Answers = Mapping[str, NDArray[np.bool_]]


class Measured:
    """Runs that have a result, each once. `own`: from a cell to the cell that its runs count under."""

    def __init__(self, section: Section, answers: Answers) -> None:
        done = section.runs[section.runs[section.metric].notna()]
        first = done.groupby("run")["cell"].transform("min")  # a run stands for several cells
        self.own: dict[int, int] = dict(zip(done["cell"], first, strict=True))
        self.runs = done[done["cell"] == first].reset_index(drop=True)
        cells, self.metric = section.cells, section.metric
        of_cell = cells[KEY] if KEY in cells else pd.Series(RUNNING, index=cells.index)
        self.evaluation: dict[int, str] = dict(of_cell)
        self.training = trainings(section)
        self.answers = [answers.get(str(run)) for run in self.runs["run"]]

    def of(self, weights: Weights) -> Estimated:
        """The contrast Σ weight · cell. UserError for one between other trainings by other statistics."""
        ways = {self.evaluation[int(str(cell))] for cell in weights}
        if ways == {RUNNING}:
            own = self.runs["cell"].map(self.evaluation) == RUNNING
            return self.estimate(own, weights, self.runs["seed"])
        if len({self.training[int(str(cell))] for cell in weights}) > 1:
            raise UserError("a contrast of evaluations must be of the same trained networks")
        return self.within(weights)

    def estimate(self, some: pd.Series[bool], weights: Weights, seeds: Any) -> Estimated:
        """From the runs that are marked, with an effect of each seed."""
        runs, answers = (
            self.runs[some],
            [a for a, one in zip(self.answers, some, strict=True) if one],
        )
        design = Design(list(runs["cell"]), list(seeds[some]))
        return design.estimate(weights, list(runs[self.metric]), answers)

    def within(self, weights: Weights) -> Estimated:
        """The same combination of evaluations of every training that has them; the mean of those of
        the contrast's cell, with the deviation pooled over all cells of training."""
        ways = {self.evaluation[int(str(cell))]: weight for cell, weight in weights.items()}
        cell = self.training[int(str(next(iter(weights))))]
        found: dict[tuple[str, int], dict[str, int]] = {}
        for place, run in self.runs.iterrows():
            way, of_cell = self.evaluation[int(run["cell"])], self.training[int(run["cell"])]
            if way in ways:
                found.setdefault((of_cell, int(run["seed"])), {})[way] = int(str(place))
        whole = {key: places for key, places in found.items() if len(places) == len(ways)}
        accuracy = self.runs[self.metric]
        values = [
            sum(ways[way] * float(accuracy[at]) for way, at in places.items())
            for places in whole.values()
        ]
        answers = [self.combined(ways, places) for places in whole.values()]
        return Design([of_cell for of_cell, _ in whole]).estimate({cell: 1.0}, values, answers)

    def combined(
        self, ways: Mapping[str, float], places: Mapping[str, int]
    ) -> NDArray[np.float64] | None:
        """Σ weight · answer of a training's evaluations to each test image; None where not known."""
        total: NDArray[np.float64] | None = None
        for way, at in places.items():
            one = self.answers[at]
            if one is None or (total is not None and len(one) != len(total)):
                return None
            total = ways[way] * one.astype(float) + (0.0 if total is None else total)
        return total


def trainings(section: Section) -> dict[int, str]:
    """From a cell to what its trainings have in common: all its values but the evaluation."""
    keys = [key for key in section.values()[next(iter(section.cells.index))] if key != KEY]
    words = rows(section.cells[keys])
    return {
        int(cell): " ".join(f"{key}={token(value)}" for key, value in values.items())
        for cell, values in zip(section.cells.index, words, strict=True)
    }
