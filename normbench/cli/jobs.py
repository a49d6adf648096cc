"""From words to cells. A grid is composed once for each combination of configuration groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from normbench.cli.hydra import check_words, plain, references, value
from normbench.errors import UserError
from normbench.settings.cell import Cell, cell_of
from normbench.settings.parse import parse
from normbench.study.jobs import Job

if TYPE_CHECKING:
    from omegaconf import DictConfig

Compose = Callable[[Sequence[str]], "DictConfig"]


def cell(data: dict[str, Any]) -> Cell:
    """The cell of a composed configuration. UserError for settings that do not fit together."""
    return cell_of(parse(data))


def jobs_of(asked: Iterable[Sequence[str]], compose: Compose) -> list[Job]:
    """A job for each list of words, in their order; a mistake in the words is the job's error."""
    grid = Grid(compose)
    return [grid.job(tuple(words)) for words in asked]


class Grid:
    """Composes jobs that differ in plain values only, such as the seed, once.

    Composing takes a fifth of a second. The first job of those with the same choices and the same
    keys is composed; in the others, the values of its words are put in place of the first one's.
    """

    def __init__(self, compose: Compose) -> None:
        self.compose = compose
        self.composed: dict[object, dict[str, Any] | UserError] = {}
        self.referred: set[str] = set()  # keys that other values are made of

    def job(self, words: tuple[str, ...]) -> Job:
        try:
            return Job(words, cell(self.data(words)))
        except UserError as error:
            return Job(words, None, str(error))

    def data(self, words: tuple[str, ...]) -> dict[str, Any]:
        """What composing these words gives. UserError for a mistake in them."""
        check_words(words)  # each value: what is composed is kept for other values too
        key = self.key(words)
        if key not in self.composed:
            found: dict[str, Any] | UserError
            try:
                config = self.compose(words)
                self.referred |= references(config)
                found = plain(config)
            except UserError as error:
                found = error
            key = self.key(words)
            self.composed[key] = found
        data = self.composed[key]
        if isinstance(data, UserError):
            raise data
        for word in filter(self.is_value, words):
            data = replaced(data, word.partition("=")[0].split("."), value(word))
        return data

    def key(self, words: tuple[str, ...]) -> object:
        """What jobs that are composed once have in common: choices, and the keys of plain values."""
        return tuple(w.partition("=")[0] if self.is_value(w) else w for w in words)

    def is_value(self, word: str) -> bool:
        """Whether a word sets one value of a configuration, and nothing depends on it."""
        key, _, text = word.partition("=")
        return (
            key.replace(".", "").isidentifier()
            and key not in groups()
            and not key.startswith("hydra.")
            and key.rpartition(".")[2] not in self.referred
            and "$" not in text
            and not text.startswith("{")
            and key != "evaluate"
        )


def replaced(data: dict[str, Any], path: Sequence[str], new: Any) -> dict[str, Any]:
    """A copy of nested data with another value at a path; what is not on the path is shared."""
    first, *rest = path
    return data | {first: replaced(data[first], rest, new) if rest else new}


@cache
def groups() -> set[str]:
    """The configuration groups: the folders of conf/."""
    return {entry.name for entry in files("normbench.conf").iterdir() if entry.is_dir()}
