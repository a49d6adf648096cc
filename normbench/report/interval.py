"""Student's t: the quantile from the exact distribution function, and the interval of a mean."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with the half-width of its 95 % interval, None where n = 1."""

    mean: float
    half: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of independent values, in their unit; None where there are none."""
    n = len(values)
    if n < 2:
        return Estimate(values[0], None, 1) if n else None
    error = statistics.stdev(values) / math.sqrt(n)
    return Estimate(statistics.fmean(values), quantile(0.975, n - 1) * error, n)


def distribution(t: float, freedom: int) -> float:
    """P(T <= t) for a whole number of degrees of freedom: the finite sums of Abramowitz & Stegun
    1964, 26.7.3 and 26.7.4, with θ = atan(t / √freedom)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    total *= math.sin(angle)
    inside = 2 / math.pi * (angle + total) if odd else total
    return (1 + inside) / 2


@functools.cache
def quantile(p: float, freedom: int) -> float:
    """The t with P(T <= t) = p, for 0.5 <= p < 1, by bisection to the last bit."""
    low, high = 0.0, 1.0
    while distribution(high, freedom) < p:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if distribution(middle, freedom) < p else (low, middle)
    return high
