"""The identities in the docstrings hold."""

from __future__ import annotations

import doctest

from normbench.norms import plane


def test_the_algebra_as_its_docstring_tells_it() -> None:
    failed, tried = doctest.testmod(plane)
    assert (failed, tried >= 10) == (0, True)
