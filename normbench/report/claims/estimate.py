"""What runs say about a contrast: its estimate, interval and p-value, with a deviation that is pooled
over the cells of a study.

Model: accuracy[cell, seed] = cell + seed + noise, by least squares. One seed gives every cell the same
first weights and the same order of images, so its effect cancels in a difference. The noise has one
variance for all cells, which is estimated from all of them (its degrees of freedom are named). It is
about other seeds, not about other test images: that of the images is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normbench.report.interval import distribution, quantile

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Estimated:
    """A contrast in points. half: of its 95 % interval; detectable: the smallest true difference that
    a test at 5 % would find four times in five; p: of the two-sided test that it is 0; None where
    there are too few runs. freedom: degrees of freedom, of the pooled deviation `deviation`."""

    value: float
    half: float | None
    detectable: float | None
    p: float | None
    deviation: float | None
    freedom: int


class Design:
    """Which cell and which seed each run of a study is of. It holds what does not depend on the
    accuracies: the shares of the runs in each effect, and the degrees of freedom that are left."""

    def __init__(self, cells: Sequence[Hashable], seeds: Sequence[Hashable]) -> None:
        self.cells, self.names = cells, list(dict.fromkeys(cells))
        others, runs = list(dict.fromkeys(seeds)), range(len(cells))
        self.matrix: Floats = np.zeros((len(cells), len(self.names) + len(others)))
        self.matrix[runs, [self.names.index(cell) for cell in cells]] = 1
        self.matrix[runs, [len(self.names) + others.index(seed) for seed in seeds]] = 1
        self.inverse: Floats = np.linalg.pinv(self.matrix)
        self.freedom = len(cells) - int(np.linalg.matrix_rank(self.matrix))

    def estimate(self, weights: Mapping[Hashable, float], accuracies: Sequence[float]) -> Estimated:
        """The contrast Σ weight · cell, of weights that sum to 0. accuracies: of each run, in percent."""
        y = np.asarray(accuracies, dtype=float)
        effects = np.zeros(len(self.inverse))
        for name, weight in weights.items():
            effects[self.names.index(name)] = weight
        shares = effects @ self.inverse  # of each run in the estimate
        value = float(shares @ y)
        if not self.freedom:
            return Estimated(value, None, None, None, None, 0)
        residual = y - self.matrix @ (self.inverse @ y)
        deviation = math.sqrt(float(residual @ residual) / self.freedom)
        error = deviation * math.sqrt(float(shares @ shares))
        half = quantile(0.975, self.freedom) * error
        detectable = half + quantile(0.8, self.freedom) * error
        t = abs(value) / error if error else math.inf
        p = 2 * (1 - distribution(t, self.freedom)) if value else 1.0
        return Estimated(value, half, detectable, max(0.0, p), deviation, self.freedom)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number by Holm 1979: below 5 % errs once in twenty families."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, most = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = most
    return adjusted
