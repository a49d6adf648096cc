"""What runs say about a contrast: its estimate, interval and p-value, with a deviation that is pooled
over the cells of a study.

Model: accuracy[cell, seed] = cell + seed + noise, by least squares. One seed gives every cell the same
first weights and the same order of images, so its effect cancels in a difference. The noise has one
variance for all cells, which is estimated from all of them (its degrees of freedom are named). The
sampling error of the test images is added: cells are tested on the same images.
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

    def estimate(
        self,
        weights: Mapping[Hashable, float],
        accuracies: Sequence[float],
        correct: Floats | None = None,
    ) -> Estimated:
        """The contrast Σ weight · cell, of weights that sum to 0.

        accuracies: of each run, in percent. correct: its answers on the test images, 1 for right and 0
        for wrong, [runs, images]; None: they were not kept, and the images' part is left out.
        """
        y = np.asarray(accuracies, dtype=float)
        effects = np.zeros(len(self.inverse))
        for name, weight in weights.items():
            effects[self.names.index(name)] = weight
        shares = effects @ self.inverse  # of each run in the estimate
        value = float(shares @ y)
        if not self.freedom:
            return Estimated(value, None, None, None, None, 0)
        residual = y - self.matrix @ (self.inverse @ y)
        variance = float(residual @ residual) / self.freedom
        of_noise = variance * float(shares @ shares)
        of_images = 0.0 if correct is None else self.of_images(shares, correct)
        return tested(value, of_noise, of_images, math.sqrt(variance), self.freedom)

    def of_images(self, shares: Floats, correct: Floats) -> float:
        """The variance of the estimate, in points², were the test images drawn anew.

        What training noise does to single images is in the noise's variance already and is taken off:
        for n seeds of a cell it is the mean variance of an answer over the seeds, divided by n.
        """
        images: int = correct.shape[1]
        each = 100 * (shares @ correct)  # of each image its part of the contrast
        whole: float = float(each.var(ddof=1)) / images
        within = 0.0
        for name in self.names:
            runs = [i for i, cell in enumerate(self.cells) if cell == name]
            if len(runs) > 1:
                over_seeds = float(correct[runs].var(axis=0, ddof=1).mean())
                within += 1e4 * over_seeds * float(np.square(shares[runs]).sum()) / images
        return max(whole - within, 0.0)


def tested(
    value: float, of_noise: float, of_images: float, deviation: float, freedom: int
) -> Estimated:
    """The estimate with its interval and test. The degrees of freedom of the sum of both variances are
    those of Satterthwaite 1946: that of the images is known far better than that of the noise."""
    total = of_noise + of_images
    error = math.sqrt(total)
    whole = min(10_000, math.floor(freedom * (total / of_noise) ** 2)) if of_noise else freedom
    half = quantile(0.975, whole) * error
    more = quantile(0.8, whole) * error
    p = 2 * (1 - distribution(abs(value) / error, whole)) if error else float(value == 0)
    return Estimated(value, half, half + more, max(0.0, p), deviation, freedom)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number by Holm 1979: below 5 % errs once in twenty families."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, most = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = most
    return adjusted
