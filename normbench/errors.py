"""The two ways a command ends badly: the user's mistake (exit code 2) and a failure (exit code 1)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from pathlib import Path


class UserError(ValueError):
    """A mistake of the user: one line with the offending value, what is allowed and the way out."""


class FailedError(RuntimeError):
    """Something that should have worked did not: one line with what was tried and the way out."""


class DiskError(FailedError):
    """A file could not be written or read; what was there before stays, and is gone on from."""


class HeldError(FailedError):
    """Another process works on the same cell."""


class UnreadableError(FailedError):
    """The file at `path` holds something else than it should, as `why` says."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be read: {why}")
        self.path, self.why = path, why


class NewerError(FailedError):
    """A file was written by a newer version, and is not to be touched."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`", did you mean 'frn'?"` where another known word is close to `word`, else an empty string."""
    others = [one for one in known if one != word]
    close = difflib.get_close_matches(word, others, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def way_out(word: str, known: Collection[str]) -> str:
    """What follows a word that is none of `known`: the nearest of them, or else all."""
    if not known:
        return "; there are none"
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"


def divisors(number: int) -> str:
    """`1, 2, 3, 6` for 6: the choices that an error lists, some of them where they are many."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    found = sorted({*small, *(number // d for d in small)})
    shown = [f"{d}" for d in found]
    return ", ".join(shown if len(shown) <= 24 else [*shown[:20], "…", shown[-1]])
