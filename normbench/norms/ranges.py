"""Between which numbers the options of our norms may lie, by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from normbench.errors import UserError

RANGES: Mapping[str, tuple[float, float]] = {
    "eps": (0, 1e6),
    "eps_init": (0, 1e6),
    "momentum": (0, 1),  # in torch's sense: the weight of the new value
    "size": (1, 1_000_000),
    "window": (1, 10_000),
    "modes": (1, 1_000),
    "iterations": (0, 100),  # Newton's: five are enough
}


def check_range(option: str, value: Any, prefix: str = "") -> None:
    """UserError for a number that is not finite, or out of the range of the option."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise UserError(f"{prefix}{option}={value}: must be a finite number")
    low, high = RANGES.get(option, (-math.inf, math.inf))
    if not low <= value <= high:
        raise UserError(f"{prefix}{option}={value}: must be from {low:g} to {high:g}")
