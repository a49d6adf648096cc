"""What runs say about a contrast: its estimate, interval and p-value, with a deviation that is pooled
over the cells of a study.

Model: accuracy[cell, seed] = cell + seed + noise, by least squares. One seed gives every cell the same
first weights and the same order of images, so its effect cancels in a difference. The noise has one
variance for all cells, which is estimated from all of them (its degrees of freedom are named). That is
about other seeds. Where it is known which test images each run answered rightly, the error of drawing
just these images is added to it: without them an interval is not about other test images.
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
Answers = NDArray[Any]  # of each test image, whether it was right, or what is made of that
FREE = 1000  # degrees of freedom beyond which Student's t is taken for normal


@dataclass(frozen=True)
class Estimated:
    """A contrast in points. half: of its 95 % interval; detectable: the smallest true difference that
    a test at 5 % would find four times in five; p: of the two-sided test that it is 0; None where
    there are too few runs. freedom: degrees of freedom, of the pooled deviation `deviation`. images:
    the standard error that the choice of the test images adds; None where it is not known."""

    value: float
    half: float | None
    detectable: float | None
    p: float | None
    deviation: float | None
    freedom: int
    images: float | None = None


class Design:
    """Which cell and which seed each run of a study is of; without seeds these have no effect. It
    holds what does not depend on the accuracies: the shares of the runs in each effect, and the
    degrees of freedom that are left."""

    def __init__(self, cells: Sequence[Hashable], seeds: Sequence[Hashable] = ()) -> None:
        self.cells, self.names = cells, list(dict.fromkeys(cells))
        others, runs = list(dict.fromkeys(seeds)), range(len(cells))
        self.matrix: Floats = np.zeros((len(cells), len(self.names) + len(others)))
        self.matrix[runs, [self.names.index(cell) for cell in cells]] = 1
        if others:
            self.matrix[runs, [len(self.names) + others.index(seed) for seed in seeds]] = 1
        self.inverse: Floats = np.linalg.pinv(self.matrix)
        self.freedom = len(cells) - int(np.linalg.matrix_rank(self.matrix))

    def estimate(
        self,
        weights: Mapping[Hashable, float],
        accuracies: Sequence[float],
        answers: Sequence[Answers | None] = (),
    ) -> Estimated:
        """The contrast Σ weight · cell, of weights that sum to 0 where seeds have effects.

        accuracies: of each run, in percent; answers: of each run which test images it answered rightly
        [images], None where that is not known.

        The two variances are added; the degrees of freedom of the sum are those of Satterthwaite
        1946, rounded down.
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
        deviation = math.sqrt(float(residual @ residual) / self.freedom)
        of_seeds = deviation**2 * float(shares @ shares)
        of_images = self.of_images(shares, answers)
        error, freedom = math.sqrt(of_seeds + (of_images or 0.0)), self.freedom
        if of_images and of_seeds:
            freedom = min(FREE, int(freedom * ((of_seeds + of_images) / of_seeds) ** 2))
        half = quantile(0.975, freedom) * error
        detectable = half + quantile(0.8, freedom) * error
        t = abs(value) / error if error else math.inf
        p = 2 * (1 - distribution(t, freedom)) if value else 1.0
        images = None if of_images is None else math.sqrt(of_images)
        return Estimated(value, half, detectable, max(0.0, p), deviation, self.freedom, images)

    def of_images(self, shares: Floats, answers: Sequence[Answers | None]) -> float | None:
        """The variance that the choice of the test images gives an estimate of these shares; None
        where a run's answers are not known, or were given to other images.

        It is that of the mean over images of d = Σ share · answer, less what differs from seed to
        seed within d, which is in the variance of the seeds already.
        """
        used = [run for run in range(len(answers)) if abs(shares[run]) > 1e-12]
        known = [one for one in (answers[run] for run in used) if one is not None]
        if not used or len(known) < len(used) or len({len(one) for one in known}) > 1:
            return None
        right = 100 * np.array(known, dtype=float)
        count = right.shape[1]
        total = float((shares[used] @ right).var(ddof=1)) / count
        within = 0.0
        for cell in {self.cells[run] for run in used}:
            own = [place for place, run in enumerate(used) if self.cells[run] == cell]
            if len(own) > 1:
                squares = float((shares[[used[place] for place in own]] ** 2).sum())
                within += squares * float(right[own].var(axis=0, ddof=1).mean()) / count
        return float(max(0.0, total - within))


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number by Holm 1979: below 5 % errs once in twenty families."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, most = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = most
    return adjusted
