"""A study, cell by cell: what is done is skipped, the rest runs in fresh processes, several at a time.

Cells are known by their content, so that the same command again finishes what an earlier one began.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean
from typing import Any, Literal

from normbench.config import Settings, canonical
from normbench.display import clock
from normbench.errors import UserError
from normbench.machine import cores
from normbench.record import SETTINGS, Record, read_record

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


@dataclass(frozen=True)
class Slots:
    """Where cells run: a device index for each that may run at a time (None: the CPU)."""

    devices: tuple[int | None, ...]
    threads: int  # of torch, in each

    @classmethod
    def of(cls, jobs: int | None, jobs_per_gpu: int, gpus: int) -> Slots:
        """`jobs_per_gpu` on each of `gpus`; without one, `jobs` on the CPU (None: one a core)."""
        whole("jobs", 1 if jobs is None else jobs)
        whole("jobs_per_gpu", jobs_per_gpu)
        if gpus:
            devices: tuple[int | None, ...] = tuple(
                g for _ in range(jobs_per_gpu) for g in range(gpus)
            )
        else:
            devices = (None,) * (jobs or cores())
        return cls(devices, max(1, cores() // len(devices)))


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
) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    """Axes and points of a study, narrowed and widened by what the command line gives.

    UserError where no point has the values that are asked for.
    """
    of_points = {key for point in study["points"] for key in point}
    axes = {key: [given[key]] if key in given else list(v) for key, v in study["axes"].items()}
    axes |= {k: v.split(",") for k, v in given.items() if is_list(v) and k not in of_points}
    if "seed" not in axes and "seed" not in given:
        axes["seed"] = list(range(whole("seeds", study["seeds"])))
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


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once: those equal by construction are one, under its canonical settings."""
    kept: dict[object, Cell] = {}
    for cell in cells:
        if cell.settings is None:
            kept.setdefault(cell.overrides, cell)
        else:
            settings = canonical(cell.settings)
            kept.setdefault(settings.folder, Cell(cell.overrides, settings))
    return list(kept.values())


def checked(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, those that cannot work with their error; seeds of one cell are checked once."""
    from normbench.build import check

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


def seconds_left(cells: Sequence[Cell], at_a_time: int) -> float | None:
    """From what cells of this study took so far; None where none has run."""
    records = [record for cell in cells if (record := cell.record()) is not None and record.done]
    times = [record.train_seconds for record in records]
    if not times:
        return None
    open_ = sum(cell.state() in ("new", "unfinished", "failed") for cell in cells)
    return mean(times) * open_ / at_a_time


def plan(cells: Sequence[Cell], at_a_time: int) -> list[str]:
    """Each cell and where it stands; at the end, how many stand where and how long the rest takes."""
    lines, counts = [], dict.fromkeys(("done", "unfinished", "failed", "invalid", "new"), 0)
    for cell in cells:
        state = cell.state()
        counts[state] += 1
        lines.append(f"{state:10s} {cell.name}" + (f": {cell.error}" if cell.error else ""))
    left = seconds_left(cells, at_a_time)
    time = "nothing has run yet to tell how long" if left is None else f"about {clock(left)} left"
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return [*lines, f"{len(cells)} cells: {summary}; {time}, {at_a_time} at a time"]


def fetch_data(cells: Sequence[Cell]) -> None:
    """Has the data of all cells on disk before the first begins."""
    from normbench.data.info import prepare

    datasets = {}
    for cell in cells:
        if cell.settings is not None and cell.state() != "done":
            datasets[repr(cell.settings.dataset)] = cell.settings.dataset
    for dataset in datasets.values():
        prepare(dataset.name, dataset.options)
