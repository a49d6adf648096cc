"""The grid of a study: from axes and points, and what the command line makes of them, to overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from normbench.errors import UserError
from normbench.settings.bounds import cells


def whole(key: str, value: Any) -> int:
    """`value`, a whole number of at least 1; anything else is a UserError."""
    if type(value) is not int or value < 1:
        raise UserError(f"{key}={value!r}: must be a whole number, at least 1")
    return value


def is_list(text: str) -> bool:
    """Whether a word's value is a list of values, such as `2,8`, and not one that has a comma in it."""
    return "," in text and text[0] not in "[{'\""


def grid(
    study: Mapping[str, Any], given: Mapping[str, str]
) -> tuple[dict[str, Sequence[Any]], list[dict[str, Any]]]:
    """Axes and points of a study, narrowed and widened by what the command line gives.

    UserError where no point has the values that are asked for.
    """
    of_points = {key for point in study["points"] for key in point}
    axes: dict[str, Sequence[Any]] = {
        key: [given[key]] if key in given else list(v) for key, v in study["axes"].items()
    }
    axes |= {k: v.split(",") for k, v in given.items() if is_list(v) and k not in of_points}
    if "seed" not in axes and "seed" not in given:
        axes["seed"] = range(cells(whole("seeds", study["seeds"])))
    points = study["points"]
    for key in of_points & given.keys():
        points = [point for point in points if text(point.get(key)) in given[key].split(",")]
    if study["points"] and not points:
        raise UserError("none of the experiment's points has these values; see its file in conf/")
    return axes, points


def overrides_of(
    axes: Mapping[str, Sequence[Any]], points: Sequence[Mapping[str, Any]]
) -> list[tuple[str, ...]]:
    """Every combination of the axes, with each of the points where there are some."""
    for key, values in axes.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"axes.{key}={values!r} must be a list of values, at least one")
    cells(prod(len(values) for values in axes.values()) * max(1, len(points)))
    combinations = [
        tuple(f"{key}={text(value)}" for key, value in zip(axes, values, strict=True))
        for values in product(*axes.values())
    ]
    settings = [tuple(f"{k}={text(v)}" for k, v in point.items()) for point in points] or [()]
    return [one + point for one in combinations for point in settings]


def text(value: Any) -> str:
    """A value as it stands in an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(text(v) for v in value) + "]"
    return str(value)
