"""The cells of a study: how each was asked for, its settings, and where it stands.

Cells are known by their content, so that the same command again finishes what an earlier one began.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from normbench.errors import UserError
from normbench.record.record import SETTINGS, Record, read_record
from normbench.settings.identity import canonical
from normbench.settings.schema import Settings

State = Literal["done", "unfinished", "failed", "invalid", "new"]


@dataclass(frozen=True)
class Cell:
    """One point of a study: how it was asked for, and its settings or why it has none."""

    overrides: tuple[str, ...]
    settings: Settings | None
    error: str | None = None

    @property
    def name(self) -> str:
        return self.settings.folder.name if self.settings else " ".join(self.overrides)

    @property
    def command(self) -> str:
        """What repeats this cell alone."""
        return "normbench train " + shlex.join(self.overrides)

    def record(self) -> Record | None:
        return read_record(self.settings.folder) if self.settings else None

    def state(self) -> State:
        """Where the cell stands, from what lies in its folder."""
        if self.settings is None:
            return "invalid"
        record = self.record()
        if record is not None:
            return "done" if record.done else "failed"
        return "unfinished" if (self.settings.folder / SETTINGS).exists() else "new"


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once: those equal by construction are one, under its canonical settings."""
    kept: dict[object, Cell] = {}
    for cell in cells:
        if cell.settings is None:
            kept.setdefault(cell.overrides, cell)
            continue
        try:
            settings = canonical(cell.settings)
            kept.setdefault(settings.folder, Cell(cell.overrides, settings))
        except UserError as error:
            kept.setdefault(cell.overrides, Cell(cell.overrides, None, str(error)))
    return list(kept.values())


def checked(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, those that cannot work with their error; seeds of one cell are checked once."""
    from normbench.training.network import check

    errors: dict[object, str | None] = {}
    result = []
    for cell in cells:
        if cell.settings is not None and cell.state() != "done":
            key = repr(dataclasses.replace(cell.settings, seed=0))
            if key not in errors:
                try:
                    check(cell.settings)
                    errors[key] = None
                except UserError as error:
                    errors[key] = str(error)
                except Exception as error:
                    errors[key] = f"{type(error).__name__}: {error}"
            if errors[key] is not None:
                cell = Cell(cell.overrides, None, errors[key])
        result.append(cell)
    return result
