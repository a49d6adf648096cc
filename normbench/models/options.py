"""Checks of the networks' options: each returns a good value or ends in a one-line `UserError`."""

from __future__ import annotations

from collections.abc import Mapping

from normbench.errors import UserError

MOST_DEPTH = 2_000
MOST_WIDTH = 64
MOST_HIDDEN = 65_536
WHY = {
    MOST_DEPTH: "a deeper network takes minutes to be built",
    MOST_WIDTH: "the stages of a wider network have more weights than a device holds",
    MOST_HIDDEN: "a wider layer has more weights than a device holds",
}


def blocks_per_stage(depth: int, beside: int, known: tuple[int, ...]) -> int:
    """n of depth = 6n + beside: three stages of n blocks of two convolutions.

    `beside` counts the layers outside the blocks; `known` are the published depths, for the error.
    """
    if isinstance(depth, int) and depth > beside and (depth - beside) % 6 == 0:
        return (bounded("depth", depth, MOST_DEPTH) - beside) // 6
    listed = ", ".join(map(str, known))
    raise UserError(f"depth={depth!r}: must be 6n + {beside} with n >= 1, such as {listed}")


def one_of(option: str, value: int, known: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """What `known` has for a whole number."""
    if type(value) is int and value in known:
        return known[value]
    raise UserError(f"{option}={value!r}: must be one of {', '.join(map(str, known))}")


def bounded(option: str, value: int, most: int) -> int:
    """`value`, where it is `most` or less: one of the bounds above."""
    if value > most:
        raise UserError(f"{option}={value}: must be at most {most:,}: {WHY[most]}")
    return value


def positive(option: str, value: int, most: int | None = None) -> int:
    """`value`, a whole number from 1 to `most`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value if most is None else bounded(option, value, most)
    raise UserError(f"{option}={value!r}: must be a whole number of at least 1")


def flag(option: str, value: bool) -> bool:
    """`value`, true or false and nothing else: the string "no" would count as true."""
    if isinstance(value, bool):
        return value
    raise UserError(f"{option}={value!r}: must be true or false")
