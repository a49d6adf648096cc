"""The runs of a study's section, as contrasts are estimated from them.

What is independent is a training. Several evaluations of one trained network are not so many runs: a
contrast of evaluations is taken within each training, and its noise is that of the trainings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normbench.errors import UserError
from normbench.report.claims.estimate import Design, Estimated
from normbench.report.evaluations import KEY, RUNNING
from normbench.report.study import Section
from normbench.report.values import Values, token

Weights = Mapping[Any, float]  # by cell
Answers = Mapping[str, NDArray[np.bool_]]


class Measured:
    """Runs that have a result, each once. `own`: from a cell to the cell that its runs count under."""

    def __init__(self, section: Section, answers: Answers) -> None:
        done = section.runs[section.runs[section.metric].notna()]
        first = done.groupby("run")["cell"].transform("min")  # a run stands for several cells
        self.own: dict[int, int] = dict(zip(done["cell"], first, strict=True))
        self.runs = done[done["cell"] == first].reset_index(drop=True)
        self.metric = section.metric
        values = section.values()
        self.evaluation = {cell: str(own.get(KEY, RUNNING)) for cell, own in values.items()}
        self.training = {cell: training(own) for cell, own in values.items()}
        self.answers = [answers.get(str(run)) for run in self.runs["run"]]

    def of(self, weights: Weights) -> Estimated:
        """The contrast Σ weight · cell. UserError for one between other trainings by other statistics."""
        if {self.evaluation[cell] for cell in weights} == {RUNNING}:
            return self.between(weights)
        if len({self.training[cell] for cell in weights}) > 1:
            raise UserError("a contrast of evaluations must be of the same trained networks")
        return self.within(weights)

    def between(self, weights: Weights) -> Estimated:
        """From the runs as they were trained and tested, with an effect of each seed."""
        own = self.runs["cell"].map(self.evaluation) == RUNNING
        runs = self.runs[own]
        answers = [self.answers[place] for place in runs.index]
        design = Design(list(runs["cell"]), list(runs["seed"]))
        return design.estimate(weights, list(runs[self.metric]), answers)

    def within(self, weights: Weights) -> Estimated:
        """The same combination of evaluations of every training that has them; the mean of those of
        the contrast's cell, with the deviation pooled over all cells of training."""
        ways = {self.evaluation[cell]: weight for cell, weight in weights.items()}
        found: dict[tuple[str, int], dict[str, int]] = {}
        for place, (cell, seed) in enumerate(
            zip(self.runs["cell"], self.runs["seed"], strict=True)
        ):
            if (way := self.evaluation[cell]) in ways:
                found.setdefault((self.training[cell], seed), {})[way] = place
        whole = {key: places for key, places in found.items() if len(places) == len(ways)}
        accuracy = [float(value) for value in self.runs[self.metric]]
        values = [
            sum(ways[way] * accuracy[at] for way, at in places.items()) for places in whole.values()
        ]
        answers = [self.combined(ways, places) for places in whole.values()]
        trained = self.training[next(iter(weights))]
        return Design([cell for cell, _ in whole]).estimate({trained: 1.0}, values, answers)

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


def training(values: Values) -> str:
    """What the trainings of a cell have in common: all its values but the evaluation."""
    return " ".join(f"{key}={token(value)}" for key, value in values.items() if key != KEY)
