"""The words of `normbench bench`: key=value, each with what it may be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from normbench.errors import UserError, did_you_mean

Reader = Callable[[str, str], Any]  # from key and text to the value; UserError


def read(arguments: list[str], readers: Mapping[str, Reader]) -> tuple[dict[str, Any], list[str]]:
    """The values of the keys in `readers`, and the words that have none of these keys."""
    values, rest = {}, []
    for word in arguments:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is not key=value; see normbench bench --help")
        if key in readers:
            values[key] = readers[key](key, text)
        else:
            rest.append(word)
    return values, rest


def nothing_else(what: str, rest: list[str], known: Collection[str]) -> None:
    """UserError for a word that `normbench bench WHAT` does not know."""
    for word in rest:
        key = word.partition("=")[0]
        hint = did_you_mean(key, known) or f"; there are {', '.join(known)}"
        raise UserError(f"normbench bench {what} has no {key}={hint}")


def some_of(allowed: Collection[str], or_none: bool = False) -> Reader:
    """Names from `allowed`, with commas between them; nothing is none, where that is allowed."""

    def reader(key: str, text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(",")) if text or not or_none else ()
        for word in chosen:
            if word not in allowed:
                hint = did_you_mean(word, allowed)
                raise UserError(f"{key}={text}: {word!r} is not among {', '.join(allowed)}{hint}")
        return chosen

    return reader


def number(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{key}={text}: must be a whole number, 1 or more")
    return int(text)


def numbers(key: str, text: str) -> tuple[int, ...]:
    return tuple(number(key, word) for word in text.split(","))


def shapes(key: str, text: str) -> tuple[tuple[int, int, int, int], ...]:
    """32x64x32x32,2x16x32x32: N, C, H, W each."""
    found = []
    for word in text.split(","):
        sizes = word.split("x")
        if len(sizes) != 4 or not all(s.isdecimal() and int(s) > 0 for s in sizes):
            raise UserError(f"{key}={text}: {word!r} is not NxCxHxW, such as 32x64x32x32")
        n, c, h, w = (int(s) for s in sizes)
        found.append((n, c, h, w))
    return tuple(found)
