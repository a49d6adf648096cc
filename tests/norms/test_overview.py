"""The table of all norms can be printed."""

from __future__ import annotations

from . import overview
from .own_norms import PixelNorm


def test_a_line_for_every_norm() -> None:
    _, *lines = overview.table((2, 64, 4, 4), 0, ("bn", "frn", "grn"))
    words = [line.split() for line in lines]
    assert [(name, learned, file) for name, _, learned, _, file in words] == [
        ("bn", "128", "batch"),
        ("frn", "192", "filter_response"),
        ("grn", "128", "global_response"),
    ]
    assert all(0 < float(deviation) < 1e-9 for _, deviation, *_ in words)


def test_lines_of_code_are_counted_without_words() -> None:
    assert overview.code_lines(PixelNorm) == 16
