"""The jobs of a study: how each cell was asked for, the cell itself or its error, where it stands.

A cell is known by its content, so the same command again finishes what an earlier one began.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from normbench import choices
from normbench.errors import FailedError, NewerError, UserError
from normbench.record.record import SETTINGS, Record, read_record
from normbench.settings.cell import Cell
from normbench.settings.schema import Settings

OF_TRAINING = (
    *("seed", "epochs", "lr", "lr_batch", "momentum", "nesterov", "weight_decay", "warmup"),
    *(
        "norm_weight_decay",
        "schedule",
        "milestones",
        "decay",
        "label_smoothing",
        "study",
        "results",
        "checkpoint_minutes",
    ),
)  # settings that make no difference to whether the network can run
CHECKED = [f.name for f in dataclasses.fields(Settings) if f.name not in OF_TRAINING]

State = Literal["done", "unfinished", "failed", "unreadable", "invalid", "new"]
OPEN = ("new", "unfinished", "failed", "unreadable")  # of cells that are to be trained


@dataclass(frozen=True)
class Job:
    """A cell as it was asked for: its overrides, and the cell or, where there is none, the error."""

    overrides: tuple[str, ...]
    cell: Cell | None
    error: str | None = None

    @property
    def name(self) -> str:
        return self.cell.folder.name if self.cell else " ".join(self.overrides)

    @property
    def command(self) -> str:
        """The command that trains this cell alone."""
        return "normbench train " + shlex.join([*self.overrides, *filter(None, [choices.word()])])

    def record(self) -> Record | None:
        """The cell's record; None where there is none that can be read."""
        try:
            return read_record(self.cell.folder) if self.cell else None
        except FailedError:
            return None

    def state(self) -> State:
        """Where the cell stands, from what lies in its folder."""
        if self.cell is None:
            return "invalid"
        try:
            record = read_record(self.cell.folder)
        except FailedError:
            return "unreadable"
        if record is not None:
            return "done" if record.done else "failed"
        return "unfinished" if (self.cell.folder / SETTINGS).exists() else "new"


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Each cell once, under the first overrides that ask for it."""
    kept: dict[object, Job] = {}
    for job in jobs:
        kept.setdefault(job.overrides if job.cell is None else job.cell.folder, job)
    return list(kept.values())


def newer_record(cell: Cell) -> str:
    """Why a cell is not touched: a newer version has written its record. Empty where none has."""
    try:
        read_record(cell.folder)
    except NewerError as error:
        return str(error)
    except FailedError:  # whoever trains the cell sees to it
        pass
    return ""


def checked(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, those that cannot work with their error; each network is checked once."""
    from normbench.training.network import check

    errors: dict[object, str | None] = {}
    result = []
    for job in jobs:
        if job.cell is not None and job.state() != "done":
            settings = job.cell.settings
            key = repr([getattr(settings, name) for name in CHECKED])
            if key not in errors:
                try:
                    check(settings)
                    errors[key] = None
                except UserError as mistake:
                    errors[key] = str(mistake)
                except Exception as failure:
                    errors[key] = f"{type(failure).__name__}: {failure}"
            if error := errors[key] or newer_record(job.cell):
                job = Job(job.overrides, None, error)
        result.append(job)
    return result
