"""A loop inside a test runs every case and names those that fail."""

from __future__ import annotations

import inspect

import pytest

from .cases import each


def test_every_case_runs_and_those_that_fail_are_named() -> None:
    seen = []

    @each("b", [10, 20])
    @each("a", [1, 2, 3])
    def test(a: int, b: int, fixture: str) -> None:
        seen.append((a, b, fixture))
        assert (a, b) not in [(2, 10), (3, 10)], "no"
        if b == 20:
            raise KeyError("key")

    assert list(inspect.signature(test).parameters) == ["fixture"]
    with pytest.raises(AssertionError) as failure:
        test(fixture="f")
    assert seen == [(a, b, "f") for b in (10, 20) for a in (1, 2, 3)]
    words = str(failure.value)
    assert words.startswith("b=10: a=2: no")
    assert "a=1" not in words.partition("b=20")[0]
    assert "b=20: a=1: KeyError: 'key'; a=2: KeyError" in words


def test_a_loop_over_nothing_and_an_argument_that_is_not_there() -> None:
    with pytest.raises(AssertionError, match="rows: there is nothing to test"):
        each("rows", [])
    with pytest.raises(AssertionError, match="takes no row"):
        each("row", [1])(lambda: None)
