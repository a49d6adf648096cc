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

import numpy as np
from numpy.typing import NDArray

from normbench.report.interval import distribution, quantile

Floats = NDArray[np.float64]


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


class Pooled:
    """The fit of one study. cells, seeds: of each run; accuracies: of each run, in percent.

    images: the number of test images. correct: a run's answers on the test images, 1 for right and 0
    for wrong, [runs, images]; None: not kept, and the sampling error of the images is left out.
    """

    def __init__(
        self,
        cells: Sequence[Hashable],
        seeds: Sequence[Hashable],
        accuracies: Sequence[float],
        correct: Floats | None = None,
    ) -> None:
        self.names = list(dict.fromkeys(cells))
        self.cells = cells
        rows = [self.names.index(cell) for cell in cells]
        others = list(dict.fromkeys(seeds))
        design = np.zeros((len(cells), len(self.names) + len(others)))
        design[range(len(cells)), rows] = 1
        design[range(len(cells)), [len(self.names) + others.index(s) for s in seeds]] = 1
        self.y, self.correct = np.asarray(accuracies, dtype=float), correct
        self.inverse: Floats = np.linalg.pinv(design)
        self.freedom = len(cells) - int(np.linalg.matrix_rank(design))
        residual = self.y - design @ (self.inverse @ self.y)
        self.variance = float(residual @ residual) / self.freedom if self.freedom else None

    def estimate(self, weights: Mapping[Hashable, float]) -> Estimated:
        """The contrast Σ weight · cell; the weights sum to 0."""
        row = np.zeros(len(self.inverse))
        for name, weight in weights.items():
            row[self.names.index(name)] = weight
        shares = row @ self.inverse  # of each run in the estimate
        value = float(shares @ self.y)
        if self.variance is None:
            return Estimated(value, None, None, None, None, 0)
        of_noise = self.variance * float(shares @ shares)
        of_images = self.of_images(shares)
        error = math.sqrt(of_noise + of_images)
        # Satterthwaite 1946: the images' part is known far better than the noise's
        freedom = math.floor(self.freedom * ((of_noise + of_images) / of_noise) ** 2) if of_noise else 1
        freedom = max(1, min(freedom, 10_000))
        half = quantile(0.975, freedom) * error
        detectable = half + quantile(0.8, freedom) * error
        p = 2 * (1 - distribution(abs(value) / error, freedom)) if error else float(value == 0)
        return Estimated(value, half, detectable, p, math.sqrt(self.variance), self.freedom)

    def of_images(self, shares: Floats) -> float:
        """The variance of the estimate, in points², were the test images drawn anew.

        What training noise does to single images is in the noise's variance already and is taken off:
        for n seeds of a cell it is E[answers' variance over the seeds] / n.
        """
        if self.correct is None:
            return 0.0
        images = self.correct.shape[1]
        each = 100 * (shares @ self.correct)  # of each image its part of the contrast
        whole = float(each.var(ddof=1)) / images
        within = 0.0
        for name in self.names:
            runs = [i for i, cell in enumerate(self.cells) if cell == name]
            if len(runs) > 1:
                over_seeds = self.correct[runs].var(axis=0, ddof=1).mean()
                within += 1e4 * float(over_seeds * (shares[runs] ** 2).sum()) / images
        return max(0.0, whole - within)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number by Holm 1979: below 5 % errs once in twenty families."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, most = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = most
    return adjusted
