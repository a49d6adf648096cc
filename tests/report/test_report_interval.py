"""Student's t: known values, and the coverage of the printed interval."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normbench.report.interval import distribution, estimate, quantile

# the 97.5 % column of any printed table of t
TABLE = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    9: 2.262,
    10: 2.228,
    30: 2.042,
    120: 1.980,
}


@pytest.mark.parametrize(("freedom", "t"), TABLE.items())
def test_the_quantiles_are_those_of_the_printed_table(freedom: int, t: float) -> None:
    assert quantile(0.975, freedom) == pytest.approx(t, abs=5e-4)


def test_closed_forms_of_one_and_two_degrees_of_freedom() -> None:
    for p in (0.6, 0.9, 0.975, 0.9995):
        assert quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
        two = (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
        assert quantile(p, 2) == pytest.approx(two, rel=1e-9)


@given(st.floats(-50, 50), st.integers(1, 60))
def test_the_distribution_is_symmetric_and_between_0_and_1(t: float, freedom: int) -> None:
    assert -1e-12 <= distribution(t, freedom) <= 1 + 1e-12
    assert distribution(t, freedom) + distribution(-t, freedom) == pytest.approx(1)


@given(st.floats(0.5, 0.999), st.integers(1, 60))
def test_the_quantile_inverts_the_distribution(p: float, freedom: int) -> None:
    assert distribution(quantile(p, freedom), freedom) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_covers_the_truth_in_95_of_100(n: int) -> None:
    truth, draws = 71.3, 10_000
    samples = np.random.default_rng(n).normal(truth, 0.8, size=(draws, n))
    found = [estimate(row.tolist()) for row in samples]
    inside = sum(e is not None and abs(e.mean - truth) <= (e.half or 0) for e in found)
    assert abs(100 * inside / draws - 95) <= 1


def test_one_value_has_no_interval_and_none_is_nothing() -> None:
    one = estimate([70.0])
    assert one is not None
    assert (one.mean, one.half, one.n) == (70.0, None, 1)
    assert estimate([]) is None


def test_the_half_width_by_hand() -> None:
    found = estimate([70.0, 71.0, 72.0])
    assert found is not None
    assert found.half == pytest.approx(
        4.30265 * statistics.stdev([70, 71, 72]) / math.sqrt(3), rel=1e-5
    )
