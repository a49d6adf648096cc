"""What a study has yet to do: where its cells run, how long they take, which data they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from normbench.machine import cores
from normbench.record.display import clock
from normbench.study.cells import Cell
from normbench.study.grid import whole


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
    from normbench.data.prepare import prepare

    datasets = {}
    for cell in cells:
        if cell.settings is not None and cell.state() != "done":
            datasets[repr(cell.settings.dataset)] = cell.settings.dataset
    for dataset in datasets.values():
        prepare(dataset.name, dataset.options)
