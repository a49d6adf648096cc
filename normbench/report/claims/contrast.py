"""Contrasts: weighted sums of cells, such as "bn batch=2 - bn batch=32", as a claim states them.

    contrast   = term, or terms joined by + and -; conditions behind | hold for every term
    term       = [NUMBER *] [slope] NORM [KEY=VALUE ...]
    slope      the change per doubling of the one key that has a list: slope bn batch=2,8,32

NORM is a name of `normbench list norms`; "+ws" behind it stands for weight_standardization=true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from normbench.errors import UserError

Conditions = tuple[tuple[str, Any], ...]  # override key and value, the norm first


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells. `weights`: from what each cell must be to its weight."""

    text: str
    weights: Mapping[Conditions, float]

    def __str__(self) -> str:
        return self.text


def parse_contrast(text: str) -> Contrast:
    """The contrast that `text` states. Raises UserError for what is not one."""
    body, _, shared = text.partition("|")
    weights: dict[Conditions, float] = {}
    sign = 1.0
    for part in re.split(r"\s([+-])\s", body.strip()):
        if part in ("+", "-"):
            sign = 1.0 if part == "+" else -1.0
            continue
        for conditions, weight in term(part.strip(), shared.split(), text).items():
            weights[conditions] = weights.get(conditions, 0.0) + sign * weight
    return Contrast(text, weights)


def term(words: str, shared: list[str], text: str) -> dict[Conditions, float]:
    """The cells of one term with their weights."""
    found = re.fullmatch(
        r"(?:([\d.]+)\s*\*\s*)?(slope\s+)?([\w.]+)(\+ws)?((?:\s+[\w.]+=\S+)*)", words
    )
    if found is None:
        raise UserError(f"{text!r} is not a contrast: {words!r} must be NORM KEY=VALUE …")
    factor, slope, norm, standardized, rest = found.groups()
    values = [pair(word, text) for word in rest.split() + shared]
    if standardized:
        values.append(("weight_standardization", True))
    scale = float(factor or 1)
    lists = [key for key, value in values if isinstance(value, tuple)]
    if not slope:
        if lists:
            raise UserError(f"{text!r}: {lists[0]} has a list of values, which only a slope takes")
        return {(("norm", norm), *values): scale}
    if len(lists) != 1:
        raise UserError(
            f"{text!r}: a slope needs one key with a list of values, such as batch=2,8,32"
        )
    points = dict(values)[lists[0]]
    doublings = [math.log2(point) for point in points]
    middle = sum(doublings) / len(doublings)
    spread = sum((x - middle) ** 2 for x in doublings)
    return {
        (("norm", norm), *((k, point if k == lists[0] else v) for k, v in values)): scale
        * (x - middle)
        / spread
        for point, x in zip(points, doublings, strict=True)
    }


def pair(word: str, text: str) -> tuple[str, Any]:
    """`batch=2` as key and value; a value with commas is a tuple."""
    key, equals, value = word.partition("=")
    if not equals or not value:
        raise UserError(f"{text!r} is not a contrast: {word!r} must be KEY=VALUE")
    if "," in value:
        return key, tuple(yaml.safe_load(item) for item in value.split(","))
    return key, yaml.safe_load(value)
